//! Tables for people, one JSON line for machines, and what voids a run.

use std::fmt::Write as _;

/// A table whose first column is text and whose other columns are figures.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(String::len)
                    .max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a String cannot fail.
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            say(line.trim_end());
        }
        say("");
    }
}

/// The last line of a report: an object whose keys keep the order they were given in.
#[derive(Debug)]
pub(crate) struct JsonLine {
    text: String,
}

impl JsonLine {
    pub(crate) fn new(bench: &str) -> Self {
        Self {
            text: format!("{{\"bench\":\"{bench}\""),
        }
    }

    /// Adds a count; what was not measured is `null`.
    pub(crate) fn count(&mut self, key: &str, value: impl Into<Option<i64>>) -> &mut Self {
        let value = value
            .into()
            .map_or_else(|| "null".to_owned(), |value| value.to_string());
        self.add(key, &value)
    }

    /// Adds a figure with three decimals at most; what was not measured is `null`.
    pub(crate) fn figure(&mut self, key: &str, value: impl Into<Option<f64>>) -> &mut Self {
        let value = match value.into() {
            Some(value) if value.is_finite() => format!("{}", (value * 1000.0).round() / 1000.0),
            _ => "null".to_owned(),
        };
        self.add(key, &value)
    }

    /// Adds a list of texts.
    pub(crate) fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        let list = serde_json::Value::from(values.to_vec());
        self.add(key, &list.to_string())
    }

    /// Adds an object.
    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut object = Self {
            text: "{".to_owned(),
        };
        fill(&mut object);
        object.text.push('}');
        self.add(key, &object.text)
    }

    pub(crate) fn print(&mut self) {
        self.text.push('}');
        say(&self.text);
    }

    fn add(&mut self, key: &str, value: &str) -> &mut Self {
        let comma = if self.text.ends_with('{') { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{comma}\"{key}\":{value}");
        self
    }
}

/// Reasons why the figures of a run must not be used.
#[derive(Debug, Default)]
pub(crate) struct Void {
    reasons: Vec<String>,
}

impl Void {
    /// Notes the reason if `broken` holds.
    pub(crate) fn when(&mut self, broken: bool, reason: impl FnOnce() -> String) {
        if broken {
            self.reasons.push(reason());
        }
    }

    pub(crate) fn print(&self) {
        for reason in &self.reasons {
            say(&format!("VOID: {reason}"));
        }
        if !self.reasons.is_empty() {
            say("");
        }
    }

    pub(crate) fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

/// A line for people.
#[expect(clippy::print_stdout, reason = "the report is the program's output")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Thousands in groups: `1234567` becomes `1,234,567`.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::from(if number < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as mebibytes with one decimal.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_line_keeps_order_and_marks_what_was_not_measured() {
        let mut line = JsonLine::new("idle");
        line.count("z", 3)
            .figure("a", 1.23456)
            .count("b", None)
            .figure("c", f64::NAN)
            .object("d", |inner| {
                inner.count("y", 1).count("x", 2);
            });
        line.text.push('}');
        assert_eq!(
            line.text,
            r#"{"bench":"idle","z":3,"a":1.235,"b":null,"c":null,"d":{"y":1,"x":2}}"#
        );
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(grouped(-999.0), "-999");
    }
}
