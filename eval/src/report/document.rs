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

impl Section {
    /// An introduction and what was measured; where nothing was, only a sentence that says so.
    pub(crate) fn new(
        [id, title]: [&'static str; 2],
        introduction: &str,
        nothing: &str,
        blocks: Vec<Block>,
    ) -> Self {
        let first = match blocks.is_empty() {
            true => nothing,
            false => introduction,
        };
        let first = Block::Text(first.to_owned());
        Self {
            id,
            title,
            blocks: [first].into_iter().chain(blocks).collect(),
        }
    }
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
    /// The plots that could be made, under one legend.
    pub(crate) fn of_plots(
        legend: Vec<Key>,
        plots: impl IntoIterator<Item = Option<Plot>>,
    ) -> Self {
        let plots = plots.into_iter().flatten();
        Self {
            legend,
            panels: plots.map(|plot| Panel::new(plot.svg())).collect(),
            ..Self::default()
        }
    }

    /// The figure as a block, or a sentence where nothing could be drawn.
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
}

/// One entry of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) sample: Markup,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(sample: Markup, name: impl Into<String>) -> Self {
        Self {
            sample,
            name: name.into(),
        }
    }
}

/// Rows of cells under a header; the first columns name the row.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Columns to the left that hold names, not numbers.
    pub(crate) names: usize,
    /// Of less interest: on the screen it is closed at first.
    pub(crate) folded: bool,
}

/// A table that is being made of rows, column by column; the first column names the row.
pub(crate) struct Columns<'a, R> {
    rows: Vec<&'a R>,
    table: Table,
}

impl<'a, R> Columns<'a, R> {
    /// A column with its title and its cell in each row.
    pub(crate) fn column(mut self, title: impl Into<String>, cell: impl Fn(&'a R) -> Cell) -> Self {
        self.table.header.push(title.into());
        for (cells, &row) in self.table.rows.iter_mut().zip(&self.rows) {
            cells.push(cell(row));
        }
        self
    }

    /// A column for each of these.
    pub(crate) fn columns<T>(
        self,
        of: impl IntoIterator<Item = T>,
        title: impl Fn(&T) -> String,
        cell: impl Fn(&T, &'a R) -> Cell,
    ) -> Self {
        let of = of.into_iter();
        of.fold(self, |all, one| {
            all.column(title(&one), |row| cell(&one, row))
        })
    }

    /// The whole table.
    pub(crate) fn table(self) -> Table {
        self.table
    }
}

impl Table {
    /// A table with a row for each of these, and no column yet.
    pub(crate) fn of<'a, R>(
        caption: impl Into<String>,
        rows: impl IntoIterator<Item = &'a R>,
    ) -> Columns<'a, R> {
        let rows: Vec<&R> = rows.into_iter().collect();
        let table = Self {
            caption: caption.into(),
            header: Vec::new(),
            rows: vec![Vec::new(); rows.len()],
            names: 1,
            folded: false,
        };
        Columns { rows, table }
    }

    /// The table as a block, unless it is empty.
    pub(crate) fn block(self) -> Option<Block> {
        (!self.rows.is_empty()).then_some(Block::Table(self))
    }
}

/// Written for a value that was not measured.
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
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// A name, or a dash.
    pub(crate) fn code(text: impl ToString) -> Self {
        match text.to_string() {
            text if text.is_empty() => Self::Text(DASH.to_owned()),
            text => Self::Code(text),
        }
    }

    /// A measured value as `text` writes it, or a dash.
    pub(crate) fn value(value: Option<f64>, text: impl Fn(f64) -> String) -> Self {
        Self::Text(value.map_or_else(|| DASH.to_owned(), text))
    }

    /// A measured value, or a dash.
    pub(crate) fn number(value: Option<f64>, decimals: usize) -> Self {
        Self::value(value, |value| fixed(value, decimals))
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
        match value.zip(interval) {
            None => Self::value(value, text),
            Some((value, (low, high))) => {
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
