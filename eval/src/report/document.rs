//! What a report says, before it is HTML or Markdown.

use maud::Markup;

use super::chart::plot::Plot;

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

impl Figure {
    /// The figure as a block; a sentence in its place where nothing could be drawn.
    pub(crate) fn block(self) -> Block {
        match self.panels.is_empty() {
            true => Block::Text("Nothing that could be drawn was measured here.".to_owned()),
            false => Block::Figure(self),
        }
    }
}

/// How much of the page a panel takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Width {
    /// Up to three side by side.
    #[default]
    Third,
    /// Up to two side by side.
    Half,
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

    /// The plots that could be made.
    pub(crate) fn of_plots(plots: impl IntoIterator<Item = Option<Plot>>) -> Vec<Self> {
        let plots = plots.into_iter().flatten();
        plots.map(|plot| Self::new(plot.svg())).collect()
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
    /// Of less interest: a reader opens it on the screen.
    pub(crate) folded: bool,
}

impl Table {
    pub(crate) fn new(caption: impl Into<String>, header: &[&str], names: usize) -> Self {
        Self {
            caption: caption.into(),
            header: header.iter().map(|&text| Cell::text(text)).collect(),
            rows: Vec::new(),
            names,
            folded: false,
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

/// Stands for a value that was not measured.
pub(crate) const DASH: &str = "–";

/// A number with the given decimals; what rounds to zero has no sign.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.trim_matches(['0', '.']).is_empty() => digits.to_owned(),
        _ => text,
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Text(String),
    /// A name from a run, such as a policy's spec.
    Code(String),
    /// A value and its interval.
    Interval(String, String),
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
        Self::Text(value.map_or_else(|| DASH.to_owned(), |value| fixed(value, decimals)))
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
        match (value, interval) {
            (None, _) => Self::Text(DASH.to_owned()),
            (Some(value), None) => Self::Text(text(value)),
            (Some(value), Some((low, high))) => {
                Self::Interval(text(value), format!("{}–{}", text(low), text(high)))
            }
        }
    }

    /// Whether the cell holds a value.
    pub(crate) fn is_known(&self) -> bool {
        match self {
            Self::Text(text) | Self::Code(text) => !text.is_empty() && text != DASH,
            Self::Interval(..) => true,
        }
    }
}
