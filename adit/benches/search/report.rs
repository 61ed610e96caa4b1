//! Figures by name and size of the collection, and the table that they make.

use std::fmt::Write as _;
use std::time::Duration;

/// What was measured of one thing.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    shown: String,
    /// What grows.
    value: f64,
}

impl Figure {
    pub(crate) fn number(value: f64) -> Self {
        let digits = if value < 10.0 { 2 } else { 0 };
        Self { shown: format!("{value:.digits$}"), value }
    }

    pub(crate) fn seconds(took: Duration) -> Self {
        Self::number(took.as_secs_f64())
    }

    pub(crate) fn megabytes(bytes: u64) -> Self {
        Self::number(bytes as f64 / 1e6)
    }

    /// Milliseconds at the median and at the 99th percentile.
    pub(crate) fn percentiles(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let (median, high) = (at(0.5), at(0.99));
        Self { shown: format!("**{median:.1}** / {high:.1}"), value: median }
    }
}

/// All figures of one size.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) documents: u64,
    figures: Vec<(String, Figure)>,
}

impl Column {
    pub(crate) fn new(documents: u64) -> Self {
        Self { documents, figures: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, figure: Figure) {
        let name = name.into();
        eprintln!("  {name}: {}", figure.shown);
        self.figures.push((name, figure));
    }
}

/// A table with a row for each figure, and between the sizes by how much each has grown.
pub(crate) fn table(database: &str, columns: &[Column]) -> String {
    let mut head = format!("| {database} |");
    for (number, column) in columns.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(head, "{} {} |", if number > 0 { " × |" } else { "" }, grouped(column.documents));
    }
    let mut table = format!("{head}\n|{}", " --- |".repeat(columns.len() * 2));
    for (row, (name, _)) in columns.first().map_or(&[][..], |column| &column.figures).iter().enumerate() {
        let _ = write!(table, "\n| {name} |");
        for (number, column) in columns.iter().enumerate() {
            let figure = &column.figures[row].1;
            if number > 0 {
                let _ = write!(table, " {:.1} |", figure.value / columns[number - 1].figures[row].1.value);
            }
            let _ = write!(table, " {} |", figure.shown);
        }
    }
    table
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(" ")
}
