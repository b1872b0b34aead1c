//! A picture of a sound: the waveform, the probability of speech, and where speech was found.

use std::fmt::Write as _;

use crate::{Segment, VadError};

/// Columns of an envelope before neighbours are merged: enough for a picture, however long the sound.
const MAX_COLUMNS: usize = 8192;

const WIDTH: usize = 1200;
const HEIGHT: usize = 260;
const MARGIN: usize = 12;
/// Top and bottom of the waveform, of the probability, and the line of the labels.
const WAVE: (f64, f64) = (12.0, 172.0);
const PROBABILITY: (f64, f64) = (182.0, 226.0);
const LABELS: f64 = 236.0;
/// Most labels on the time axis.
const MAX_TICKS: f64 = 14.0;

type Color = [u8; 3];
const BACKGROUND: Color = [255, 255, 255];
const SPEECH: Color = [200, 235, 205];
const WAVEFORM: Color = [40, 70, 130];
const CURVE: Color = [210, 90, 20];
const AXIS: Color = [120, 120, 120];

/// Smallest and largest of every so many values of a stream.
#[derive(Debug, Clone)]
struct Envelope {
    step: usize,
    columns: Vec<(f32, f32)>,
    /// Values in the last column.
    filled: usize,
}

impl Envelope {
    fn new() -> Envelope {
        Envelope { step: 1, columns: Vec::new(), filled: 0 }
    }

    fn push(&mut self, value: f32) {
        match self.columns.last_mut() {
            Some((low, high)) if self.filled < self.step => {
                (*low, *high) = (low.min(value), high.max(value));
                self.filled += 1;
            }
            _ => {
                if self.columns.len() == MAX_COLUMNS {
                    let merged = self.columns.as_chunks().0.iter().map(|[a, b]| (a.0.min(b.0), a.1.max(b.1)));
                    self.columns = merged.collect();
                    self.step *= 2;
                }
                self.columns.push((value, value));
                self.filled = 1;
            }
        }
    }

    /// Smallest and largest between two shares of the stream, `len` values long.
    fn between(&self, from: f64, to: f64, len: u64) -> Option<(f32, f32)> {
        let column = |share: f64| (share * len as f64 / self.step as f64) as usize;
        let first = column(from).min(self.columns.len());
        let end = column(to).max(first + 1).min(self.columns.len());
        self.columns[first..end].iter().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

/// Collects what there is to draw while the sound runs by, in bounded memory.
#[derive(Debug, Clone)]
pub struct Plot {
    rate: u32,
    samples: u64,
    windows: u64,
    wave: Envelope,
    probability: Envelope,
}

/// What a picture consists of.
enum Shape {
    /// x, y, width, height.
    Rectangle(Color, [f64; 4]),
    /// Vertical lines: x, top, bottom.
    Bars(Color, Vec<[f64; 3]>),
    /// x, y of the top left corner.
    Text(Color, [f64; 2], String),
}

impl Plot {
    /// Of a sound at `rate` Hz.
    pub fn new(rate: u32) -> Plot {
        Plot { rate, samples: 0, windows: 0, wave: Envelope::new(), probability: Envelope::new() }
    }

    /// The next samples.
    pub fn push_samples(&mut self, samples: &[f32]) {
        self.samples += samples.len() as u64;
        samples.iter().for_each(|&x| self.wave.push(x));
    }

    /// The next probabilities.
    pub fn push_probabilities(&mut self, probabilities: &[f32]) {
        self.windows += probabilities.len() as u64;
        probabilities.iter().for_each(|&p| self.probability.push(p));
    }

    /// The picture as SVG.
    pub fn svg(&self, segments: &[Segment]) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\">\n"
        );
        // Writing to a String cannot fail.
        for shape in self.shapes(segments) {
            let _ = match shape {
                Shape::Rectangle(color, [x, y, width, height]) => writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\"/>",
                    hex(color)
                ),
                Shape::Bars(color, bars) => {
                    let path: String =
                        bars.iter().map(|[x, y0, y1]| format!("M{:.1} {y0:.1}V{y1:.1}", x + 0.5)).collect();
                    writeln!(svg, "<path d=\"{path}\" stroke=\"{}\"/>", hex(color))
                }
                Shape::Text(color, [x, y], text) => writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{}\">{text}</text>",
                    y + 10.0,
                    hex(color)
                ),
            };
        }
        svg + "</svg>\n"
    }

    /// The picture as PNG.
    ///
    /// # Errors
    /// None is known to occur; they are those of the encoder.
    pub fn png(&self, segments: &[Segment]) -> Result<Vec<u8>, VadError> {
        let mut image = Image { pixels: BACKGROUND.repeat(WIDTH * HEIGHT) };
        for shape in self.shapes(segments) {
            match shape {
                Shape::Rectangle(color, [x, y, width, height]) => image.fill(color, x, y, width, height),
                Shape::Bars(color, bars) => {
                    bars.iter().for_each(|[x, y0, y1]| image.fill(color, *x, *y0, 1.0, y1 - y0))
                }
                Shape::Text(color, [x, y], text) => image.text(color, x, y, &text),
            }
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, WIDTH as u32, HEIGHT as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&image.pixels)?;
        Ok(file)
    }

    fn shapes(&self, segments: &[Segment]) -> Vec<Shape> {
        let columns = (WIDTH - 2 * MARGIN) as f64;
        let x = |sample: f64| MARGIN as f64 + columns * sample / self.samples.max(1) as f64;
        let mut shapes = vec![Shape::Rectangle(BACKGROUND, [0.0, 0.0, WIDTH as f64, HEIGHT as f64])];
        for segment in segments {
            let (left, right) = (x(segment.start as f64), x(segment.end as f64));
            shapes.push(Shape::Rectangle(SPEECH, [left, WAVE.0, (right - left).max(1.0), PROBABILITY.1 - WAVE.0]));
        }
        // The loudest sample fills the height.
        let loudest = self.wave.columns.iter().fold(1e-3_f32, |most, (low, high)| most.max(-low).max(*high));
        let middle = (WAVE.0 + WAVE.1) / 2.0;
        let y = |value: f32| middle - f64::from(value / loudest) * (WAVE.1 - WAVE.0) / 2.0;
        let bars = |envelope: &Envelope, len: u64, line: &dyn Fn(f32, f32) -> (f64, f64)| {
            (0..WIDTH - 2 * MARGIN)
                .filter_map(|i| {
                    let (low, high) = envelope.between(i as f64 / columns, (i + 1) as f64 / columns, len)?;
                    let (top, bottom) = line(low, high);
                    Some([(MARGIN + i) as f64, top, bottom.max(top + 1.0)])
                })
                .collect()
        };
        shapes.push(Shape::Bars(WAVEFORM, bars(&self.wave, self.samples, &|low, high| (y(high), y(low)))));
        let height = |p: f32| PROBABILITY.1 - f64::from(p) * (PROBABILITY.1 - PROBABILITY.0);
        let curve = bars(&self.probability, self.windows, &|_, high| (height(high), PROBABILITY.1));
        shapes.push(Shape::Bars(CURVE, curve));
        shapes.push(Shape::Rectangle(AXIS, [MARGIN as f64, PROBABILITY.1, columns, 1.0]));
        let seconds = self.samples as f64 / f64::from(self.rate);
        let step = tick_step(seconds);
        let mut tick = 0.0;
        while tick <= seconds {
            let at = x(tick * f64::from(self.rate));
            shapes.push(Shape::Rectangle(AXIS, [at, PROBABILITY.1, 1.0, 5.0]));
            if at < (WIDTH - 40) as f64 {
                shapes.push(Shape::Text(AXIS, [at + 2.0, LABELS], clock(tick, step)));
            }
            tick += step;
        }
        shapes
    }
}

/// Seconds between labels.
fn tick_step(seconds: f64) -> f64 {
    const STEPS: [f64; 13] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0];
    let hours = (seconds / 3600.0 / MAX_TICKS).ceil() * 3600.0;
    STEPS.into_iter().find(|step| seconds / step <= MAX_TICKS).unwrap_or(hours)
}

/// `2`, `0.5`, `1:30`, `1:00:00`.
fn clock(seconds: f64, step: f64) -> String {
    let whole = (seconds + 1e-6) as u64;
    match whole {
        _ if step < 0.1 => format!("{seconds:.2}"),
        _ if step < 1.0 => format!("{seconds:.1}"),
        0..60 => whole.to_string(),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

fn hex([r, g, b]: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// RGB, row by row.
struct Image {
    pixels: Vec<u8>,
}

impl Image {
    fn fill(&mut self, color: Color, x: f64, y: f64, width: f64, height: f64) {
        // Conversions of floats saturate at 0.
        let (left, right) = (x.round() as usize, ((x + width).round() as usize).min(WIDTH));
        for row in y.round() as usize..((y + height).round() as usize).min(HEIGHT) {
            for pixel in self.pixels[3 * row * WIDTH..][..3 * WIDTH].as_chunks_mut().0.iter_mut().take(right).skip(left)
            {
                *pixel = color;
            }
        }
    }

    /// Digits and marks of 3 by 5 dots, each 2 by 2 pixels.
    fn text(&mut self, color: Color, x: f64, y: f64, text: &str) {
        const DOT: f64 = 2.0;
        for (i, c) in text.chars().enumerate() {
            let rows: [u8; 5] = match c {
                '0' => [7, 5, 5, 5, 7],
                '1' => [2, 6, 2, 2, 7],
                '2' => [7, 1, 7, 4, 7],
                '3' => [7, 1, 7, 1, 7],
                '4' => [5, 5, 7, 1, 1],
                '5' => [7, 4, 7, 1, 7],
                '6' => [7, 4, 7, 5, 7],
                '7' => [7, 1, 2, 2, 2],
                '8' => [7, 5, 7, 5, 7],
                '9' => [7, 5, 7, 1, 7],
                ':' => [0, 2, 0, 2, 0],
                _ => [0, 0, 0, 0, 2],
            };
            for (row, dots) in (0u8..).zip(rows) {
                for column in (0..3u8).filter(|column| dots >> (2 - column) & 1 == 1) {
                    let left = x + DOT * (4.0 * i as f64 + f64::from(column));
                    self.fill(color, left, y + DOT * f64::from(row), DOT, DOT);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sound_is_a_small_picture() {
        let mut plot = Plot::new(16_000);
        for second in 0..4000 {
            let level = if second % 2 == 0 { 0.5 } else { 0.0 };
            plot.push_samples(&[level, -level].repeat(800));
            plot.push_probabilities(&[level; 31]);
        }
        assert!(plot.wave.columns.len() <= MAX_COLUMNS && plot.probability.columns.len() <= MAX_COLUMNS);
        assert_eq!(plot.wave.between(0.0, 1.0, plot.samples), Some((-0.5, 0.5)));
        let svg = plot.svg(&[Segment { start: 16_000, end: 32_000 }]);
        assert!(svg.len() < 100_000 && svg.ends_with("</svg>\n") && svg.contains(&hex(SPEECH)));
    }

    #[test]
    fn speech_is_coloured_where_it_is() {
        let mut plot = Plot::new(8000);
        plot.push_samples(&vec![0.0; 8000]);
        let file = plot.png(&[Segment { start: 4000, end: 8000 }]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let pixel = |x: usize, y: usize| &pixels[3 * (y * WIDTH + x)..][..3];
        assert_eq!((pixel(300, 30), pixel(900, 30)), (&BACKGROUND[..], &SPEECH[..]));
    }

    #[test]
    fn nothing_can_be_drawn_too() {
        let plot = Plot::new(16_000);
        assert!(plot.svg(&[]).contains("<svg") && plot.png(&[]).is_ok());
    }

    #[test]
    fn labels() {
        assert_eq!(
            [clock(0.5, 0.5), clock(59.0, 1.0), clock(90.0, 30.0), clock(3600.0, 1800.0)],
            ["0.5", "59", "1:30", "1:00:00"]
        );
        for seconds in [0.0, 0.3, 11.0, 3600.0, 1e6] {
            assert!(seconds / tick_step(seconds) <= MAX_TICKS, "{seconds}");
        }
    }
}
