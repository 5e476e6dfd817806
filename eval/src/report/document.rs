//! What a report says, before it is HTML or Markdown.

use maud::Markup;

/// A whole report.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) title: &'static str,
    pub(crate) sections: Vec<Section>,
}

/// A part under a heading.
#[derive(Debug)]
pub(crate) struct Section {
    /// Where the table of contents points.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) blocks: Vec<Block>,
}

#[derive(Debug)]
pub(crate) enum Block {
    Text(String),
    /// What a reader must know before believing a figure.
    Note(String),
    Heading(String),
    Figure(Figure),
    Table(Table),
}

/// Panels that share a legend and a caption.
#[derive(Debug, Default)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) legend: Vec<Key>,
    pub(crate) panels: Vec<Panel>,
    pub(crate) width: Width,
}

/// How much of the page a panel takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Width {
    /// Up to three side by side.
    #[default]
    Third,
    /// The whole line.
    Line,
    /// The whole line; scrolled sideways where the screen is narrower than the picture.
    Wide,
}

#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) svg: Markup,
    /// Where a panel has a legend of its own.
    pub(crate) legend: Vec<Key>,
}

impl Panel {
    pub(crate) fn new(svg: Markup) -> Self {
        Self {
            svg,
            legend: Vec::new(),
        }
    }
}

/// One entry of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) sample: Markup,
    pub(crate) name: String,
}

/// Rows of cells under a header; the first columns name the row.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) header: Vec<Cell>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Columns to the left that hold names, not numbers.
    pub(crate) names: usize,
}

impl Table {
    pub(crate) fn new(caption: impl Into<String>, header: &[&str], names: usize) -> Self {
        Self {
            caption: caption.into(),
            header: header.iter().map(|&text| Cell::text(text)).collect(),
            rows: Vec::new(),
            names,
        }
    }

    /// Adds a row; it has as many cells as the header.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.header.len(), "one cell per column");
        self.rows.push(row);
    }

    /// The table as a block, unless it is empty.
    pub(crate) fn block(self) -> Option<Block> {
        (!self.rows.is_empty()).then_some(Block::Table(self))
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Text(String),
    /// A name from a run, such as a policy's spec.
    Code(String),
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn code(text: impl Into<String>) -> Self {
        Self::Code(text.into())
    }

    /// A measured value, or a dash.
    pub(crate) fn number(value: Option<f64>, decimals: usize) -> Self {
        Self::Text(value.map_or_else(
            || "–".to_owned(),
            |value| format!("{:.decimals$}", value + 0.0),
        ))
    }

    /// A share in percent, without the sign.
    pub(crate) fn percent(share: Option<f64>) -> Self {
        Self::number(share.map(|share| share * 100.0), 1)
    }

    /// A value with its interval, both formatted by `text`.
    pub(crate) fn with_interval(
        value: Option<f64>,
        interval: Option<(f64, f64)>,
        text: impl Fn(f64) -> String,
    ) -> Self {
        Self::Text(match (value, interval) {
            (None, _) => "–".to_owned(),
            (Some(value), None) => text(value),
            (Some(value), Some((low, high))) => {
                format!("{} ({}–{})", text(value), text(low), text(high))
            }
        })
    }
}
