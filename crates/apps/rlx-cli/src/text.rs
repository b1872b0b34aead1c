//! Small things for text on a terminal.

/// A size in bytes for people: `98.4 MB` (decimal units, as disks and hubs count).
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        // What would be printed as 1000.0 belongs to the next unit.
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

/// A count for people: `134.5 M`.
pub fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
    }
}

/// Rows as aligned columns, two spaces apart, each line indented by `indent` spaces. Columns whose cells all begin
/// with a digit, or a minus sign and a digit, are aligned to the right.
pub fn columns(rows: &[Vec<String>], indent: usize) -> String {
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let numeric = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        cells.all(|cell| cell.strip_prefix('-').unwrap_or(cell).starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut out = String::new();
    for row in rows {
        let mut line = " ".repeat(indent);
        for (i, cell) in row.iter().enumerate() {
            let pad = " ".repeat(width(i) - cell.chars().count());
            let last = i + 1 == row.len();
            match (numeric(i), last) {
                (true, _) => line.push_str(&format!("{pad}{cell}")),
                (false, true) => line.push_str(cell),
                (false, false) => line.push_str(&format!("{cell}{pad}")),
            }
            if !last {
                line.push_str("  ");
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `text` cut to `max` characters, control characters escaped, so that a file cannot write to the terminal.
pub fn plain(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == max {
            out.push_str("...");
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!([bytes(0), bytes(999), bytes(98_362_432)], ["0 B", "999 B", "98.4 MB"]);
        assert_eq!([bytes(999_999), bytes(u64::MAX)], ["1.0 MB", "18446.7 PB"]);
        assert_eq!([count(7), count(134_515_008), count(1_235_814_432)], ["7", "134.5 M", "1.24 B"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["a".into(), "1 B".into(), "x".into()], vec!["bcd".into(), "10 B".into(), "yy".into()]];
        assert_eq!(columns(&rows, 1), " a     1 B  x\n bcd  10 B  yy\n");
        let rows = vec![vec!["0.5".into(), "-".into()], vec!["-0.25".into(), "b".into()]];
        assert_eq!(columns(&rows, 0), "  0.5  -\n-0.25  b\n");
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(plain("a\x1b[2Jb\n", 99), "a\\u{1b}[2Jb\\n");
        assert_eq!(plain("abcdef", 3), "abc...");
    }
}
