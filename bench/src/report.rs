//! Tables for people: printed, and written into `performance.md` between the scenario's two marks.

use std::path::Path;

use anyhow::Context;

/// A table of text.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Self {
        Self {
            header: header.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        assert_eq!(COLUMNS, self.header.len(), "a cell for each column");
        self.rows.push(cells.to_vec());
    }

    /// The first column to the left, all others, numbers, to the right.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = (0..self.header.len())
            .map(|column| if column == 0 { "---" } else { "---:" }.to_owned())
            .collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.header) + &line(&rule) + &rows
    }
}

/// The middle of some values; NaN without any.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 0.5)
}

/// The value that a share of the values does not exceed; the mean of the two in the middle for an even median.
pub fn percentile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let (below, above) = (
        values[place.floor() as usize],
        values[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
}

/// Thousands apart, no decimals.
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digit.is_ascii_digit() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Replaces what lies between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` in `performance.md`, and prints it.
pub fn write(docs: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    println!("\n## {name}\n\n{text}");
    let path = docs.join("performance.md");
    let page =
        std::fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))?;
    let (begin, end) = (
        format!("<!-- bench:{name} -->"),
        format!("<!-- /bench:{name} -->"),
    );
    let (before, rest) = page
        .split_once(&begin)
        .with_context(|| format!("{} has no mark {begin}", path.display()))?;
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("{} has no mark {end}", path.display()))?;
    std::fs::write(
        &path,
        format!("{before}{begin}\n{}\n{end}{after}", text.trim()),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(whole(1234567.4), "1,234,567");
        assert_eq!(whole(999.0), "999");
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([1.0, 2.0]), 1.5);
    }
}
