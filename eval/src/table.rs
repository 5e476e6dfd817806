//! A plain text table: the first column is left-aligned, the others are right-aligned.

use std::fmt;

use comfy_table::{CellAlignment, presets};

/// Rows of cells under a header.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        for (n, column) in table.column_iter_mut().enumerate() {
            let (alignment, gap) = match n {
                0 => (CellAlignment::Left, 0),
                _ => (CellAlignment::Right, 2),
            };
            column.set_padding((gap, 0)).set_cell_alignment(alignment);
        }
        Self(table)
    }

    /// Adds a row; it has as many cells as the header.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.0.add_row(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.trim_fmt())
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
