//! A plain text table: the first column to the left, numbers to the right.

use std::fmt;

/// Rows of cells under a header.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    /// Adds a row; it has as many cells as the header.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(
            row.len(),
            self.rows[0].len(),
            "a row has one cell per column"
        );
        self.rows.push(row);
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                match column {
                    0 if row.len() == 1 => write!(f, "{cell}")?,
                    0 => write!(f, "{cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
        }
        Ok(())
    }
}

/// A number with the given decimals, or a dash.
pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// A share as a percentage with one decimal, or a dash.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["mode", "ms"]);
        table.push(vec!["full".into(), number(Some(1234.5), 1)]);
        table.push(vec!["first-k".into(), number(None, 1)]);
        assert_eq!(
            table.to_string(),
            "mode         ms\nfull     1234.5\nfirst-k       -"
        );
    }

    #[test]
    fn shares_are_printed_in_percent() {
        assert_eq!(percent(Some(0.9818)), "98.2 %");
        assert_eq!(percent(None), "-");
    }
}
