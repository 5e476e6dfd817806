//! Charts as inline SVG. Text and attributes go through `maud`, which escapes them; colours are
//! never the only difference between two series.
//!
//! Why not a plotting crate: `plotters` draws dashes as separate strokes and has neither tooltips
//! nor classes that print styles could reach.

pub(crate) mod axis;
pub(crate) mod bars;
pub(crate) mod heat;
pub(crate) mod plot;
pub(crate) mod style;

mod geometry;

/// How wide a character of the charts' font is, as a share of its size; a little too wide, so that
/// space reserved by it suffices in any font.
const CHAR_WIDTH: f64 = 0.6;

/// At most so many characters; the last is an ellipsis where some were left out.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    match text.chars().count() > max {
        true => text
            .chars()
            .take(max.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}
