//! A roofline picture: rate of arithmetic over arithmetic intensity, both logarithmic (Williams et al. 2009).

use std::fmt::Write;

use super::markdown::{gops, peaks, prefill_rate};
use super::measure::{Measured, median};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
/// The plot's edges: left, top, right, bottom.
const PLOT: (f64, f64, f64, f64) = (76.0, 56.0, 660.0, 500.0);
/// Least space between a value and the axis' end, as a factor.
const MARGIN: f64 = 1.3;
/// Nearest that two labels may come.
const LABEL_HEIGHT: f64 = 15.0;

/// Colours of the points, told apart by the colour-blind too (Okabe and Ito 2008).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f6bd6", "#a05a2c"];

struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// An axis over `values` and a margin, from and to a 1, 2 or 5 of a decade.
    fn around(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min) / MARGIN;
        let high = values.fold(0.0, f64::max) * MARGIN;
        let steps = |value: f64| {
            let decade = 10f64.powf(value.log10().floor());
            [1.0, 2.0, 5.0, 10.0].map(|step| step * decade)
        };
        let [first, ..] = steps(low);
        let low = steps(low).into_iter().rfind(|step| *step <= low).unwrap_or(first);
        let high = steps(high).into_iter().find(|step| *step >= high).unwrap_or(high);
        Axis { low, high, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).log10() / (self.high / self.low).log10();
        self.start + share * (self.end - self.start)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
        (first..=last).map(|exponent| 10f64.powi(exponent))
    }
}

struct Point {
    number: usize,
    x: f64,
    y: f64,
    prefill: bool,
}

/// The picture; empty of points where nothing was measured.
pub(super) fn svg(measured: &[Measured]) -> String {
    let dram = median(measured.iter().filter_map(Measured::dram).collect()).unwrap_or(1.0);
    let peaks = peaks(measured);
    let points = points(measured);
    let highest = peaks.iter().map(|(_, value)| *value).fold(10.0, f64::max);
    let (left, top, right, bottom) = PLOT;
    let xs = points.iter().map(|point| point.x).chain([1.0, 2.0 * highest / dram]);
    let ys = points.iter().map(|point| point.y).chain([highest, 10.0]);
    let x_axis = Axis::around(xs, left, right);
    let y_axis = Axis::around(ys, bottom, top);

    let mut out = String::new();
    frame(&mut out, &x_axis, &y_axis);
    roofs(&mut out, &x_axis, &y_axis, dram, &peaks);
    let mut taken = Vec::new();
    for point in &points {
        mark(&mut out, point, &x_axis, &y_axis, &mut taken);
    }
    legend(&mut out, measured);
    out.push_str("</svg>\n");
    out
}

fn points(measured: &[Measured]) -> Vec<Point> {
    let mut points = Vec::new();
    for (i, m) in measured.iter().enumerate() {
        if let (Some((operations, bytes)), Some(speed)) =
            (m.decode_cost(), m.ours(|run| Some(run.tokens_per_second[2])))
        {
            points.push(Point { number: i + 1, x: operations / bytes, y: operations * speed / 1e9, prefill: false });
        }
        if let (Some((operations, bytes)), Some(rate)) = (m.prefill_cost(512.0), prefill_rate(m)) {
            points.push(Point { number: i + 1, x: operations / bytes, y: rate, prefill: true });
        }
    }
    points
}

/// Background, grid, axes.
fn frame(out: &mut String, x_axis: &Axis, y_axis: &Axis) {
    let (left, top, right, bottom) = PLOT;
    // The picture brings its own background, so it can be read on any page.
    let _ = write!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" role="img">
<title>Roofline: decode and prefill against the machine's limits</title>
<style>
.page {{ fill: #ffffff; stroke: #d0d7de; }} .ink {{ fill: #1f2328; }} .faint {{ fill: #59636e; }}
.grid {{ stroke: #d8dee4; }} .roof {{ stroke: #1f2328; stroke-width: 1.5; fill: none; }} .peak {{ stroke: #59636e; stroke-dasharray: 6 4; }}
@media (prefers-color-scheme: dark) {{
.page {{ fill: #0d1117; stroke: #3d444d; }} .ink {{ fill: #f0f6fc; }} .faint {{ fill: #9198a1; }}
.grid {{ stroke: #2a313c; }} .roof {{ stroke: #f0f6fc; }} .peak {{ stroke: #9198a1; }}
}}
</style>
<rect class="page" x="0.5" y="0.5" width="{}" height="{}" rx="8"/>
<text class="ink" x="{left}" y="30" font-size="16" font-weight="bold">Decode and prefill against the machine's limits</text>
"#,
        WIDTH - 1.0,
        HEIGHT - 1.0,
    );
    for value in x_axis.decades() {
        let x = x_axis.at(value);
        let _ = writeln!(out, r#"<line class="grid" x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}"/>"#);
        let y = bottom + 18.0;
        let _ = writeln!(out, r#"<text class="faint" x="{x:.1}" y="{y}" text-anchor="middle">{}</text>"#, tick(value));
    }
    for value in y_axis.decades() {
        let y = y_axis.at(value);
        let _ = writeln!(out, r#"<line class="grid" x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#);
        let (x, y) = (left - 8.0, y + 4.0);
        let _ = writeln!(out, r#"<text class="faint" x="{x}" y="{y:.1}" text-anchor="end">{}</text>"#, tick(value));
    }
    let (middle, below) = ((left + right) / 2.0, bottom + 40.0);
    let _ = writeln!(
        out,
        r#"<text class="ink" x="{middle}" y="{below}" text-anchor="middle">operations per byte of weights read</text>"#
    );
    let centre = (top + bottom) / 2.0;
    let _ = writeln!(
        out,
        r#"<text class="ink" transform="translate(22 {centre}) rotate(-90)" text-anchor="middle">Gop/s</text>"#
    );
}

fn tick(value: f64) -> String {
    if value >= 1e4 { format!("{}k", value / 1e3) } else { format!("{value}") }
}

/// The slope of memory up to the highest peak, and a line for each peak.
fn roofs(out: &mut String, x_axis: &Axis, y_axis: &Axis, dram: f64, peaks: &[(&str, f64)]) {
    let (_, _, right, _) = PLOT;
    let highest = peaks.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest } else { y_axis.high };
    // From where the slope enters the plot to where it meets the roof.
    let from = x_axis.low.max(y_axis.low / dram);
    let knee = (top / dram).min(x_axis.high);
    let (x1, y1) = (x_axis.at(from), y_axis.at(from * dram));
    let (x2, y2) = (x_axis.at(knee), y_axis.at(knee * dram));
    let _ = writeln!(out, r#"<path class="roof" d="M{x1:.1} {y1:.1} L{x2:.1} {y2:.1} H{right}"/>"#);
    let angle = ((y2 - y1) / (x2 - x1)).atan().to_degrees();
    let (x, y) = (x1 + 0.56 * (x2 - x1), y1 + 0.56 * (y2 - y1) - 8.0);
    let _ = writeln!(
        out,
        r#"<text class="ink" transform="translate({x:.1} {y:.1}) rotate({angle:.1})" text-anchor="middle">DRAM read {dram:.1} GB/s</text>"#
    );
    for (name, value) in peaks {
        let y = y_axis.at(*value);
        let x = x_axis.at(value / dram).min(right);
        if *value < highest {
            let _ = writeln!(out, r#"<line class="peak" x1="{x:.1}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#);
        }
        let _ = writeln!(
            out,
            r#"<text class="faint" x="{:.1}" y="{:.1}" font-size="12">{name} {}</text>"#,
            (x + 24.0).min(right - 130.0),
            y - 5.0,
            gops(*value)
        );
    }
}

/// A point with its number beside it, moved down where another label stands.
fn mark(out: &mut String, point: &Point, x_axis: &Axis, y_axis: &Axis, taken: &mut Vec<(f64, f64)>) {
    let (x, y) = (x_axis.at(point.x), y_axis.at(point.y));
    let colour = colour(point.number);
    symbol(out, x, y, point.prefill, colour);
    let (label_x, mut label_y) = (x + 14.0, y + 4.0);
    let crowded = |y: f64| taken.iter().any(|(tx, ty)| (tx - label_x).abs() < 18.0 && (ty - y).abs() < LABEL_HEIGHT);
    while crowded(label_y) {
        label_y += LABEL_HEIGHT / 3.0;
    }
    taken.push((label_x, label_y));
    if label_y - y > LABEL_HEIGHT {
        let _ = writeln!(
            out,
            r#"<line stroke="{colour}" x1="{x:.1}" y1="{y:.1}" x2="{label_x:.1}" y2="{:.1}"/>"#,
            label_y - 4.0
        );
    }
    let _ = writeln!(
        out,
        r#"<text class="ink" x="{label_x:.1}" y="{label_y:.1}" text-anchor="middle" font-weight="bold">{}</text>"#,
        point.number
    );
}

/// A disc for decode, a square for prefill.
fn symbol(out: &mut String, x: f64, y: f64, square: bool, colour: &str) {
    let _ = if square {
        writeln!(out, r#"<rect x="{:.1}" y="{:.1}" width="11" height="11" fill="{colour}"/>"#, x - 5.5, y - 5.5)
    } else {
        writeln!(out, r#"<circle cx="{x:.1}" cy="{y:.1}" r="6" fill="{colour}"/>"#)
    };
}

fn colour(number: usize) -> &'static str {
    COLOURS[(number - 1) % COLOURS.len()]
}

fn legend(out: &mut String, measured: &[Measured]) {
    let (_, top, right, _) = PLOT;
    let x = right + 24.0;
    let mut y = top + 6.0;
    for (square, text) in [(false, "decode, 64 tokens"), (true, "prefill, 512 tokens")] {
        symbol(out, x, y - 4.0, square, "#7f7f7f");
        let _ = writeln!(out, r#"<text class="ink" x="{}" y="{y}">{text}</text>"#, x + 14.0);
        y += 22.0;
    }
    y += 10.0;
    for (i, m) in measured.iter().enumerate() {
        let speed = |test: usize| m.ours(|run| Some(run.tokens_per_second[test])).unwrap_or(0.0);
        symbol(out, x, y - 4.0, false, colour(i + 1));
        let (name, x) = (escape(&m.model), x + 14.0);
        let _ = writeln!(
            out,
            r#"<text class="ink" x="{x}" y="{y}"><tspan font-weight="bold">{}</tspan> {name}</text>"#,
            i + 1
        );
        let speeds = format!("{:.0} / {:.0} tok/s", speed(2), speed(1));
        let _ = writeln!(out, r#"<text class="faint" x="{x}" y="{}" font-size="12">{speeds}</text>"#, y + 16.0);
        y += 42.0;
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::measure::tests::example;
    use super::*;

    #[test]
    fn each_model_has_two_points_inside_the_plot() {
        let measured: Vec<Measured> = (0..8).map(|i| example(&format!("m<{i}>"), false)).collect();
        let picture = svg(&measured);
        let axis = Axis::around([1.0, 30.0].into_iter(), 0.0, 1.0);
        assert_eq!((axis.low, axis.high, axis.at(5.0)), (0.5, 50.0, 0.5));
        assert_eq!(axis.decades().collect::<Vec<_>>(), [1.0, 10.0]);
        assert_eq!(points(&measured).len(), 16);
        assert!(picture.contains("m&lt;7&gt;") && !picture.contains("m<7>") && !picture.contains("NaN"));
        // Grey ones in the legend besides.
        assert_eq!(picture.matches("<circle").count(), 8 + 8 + 1);
        assert_eq!(picture.matches(r#"width="11""#).count(), 8 + 1);
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
