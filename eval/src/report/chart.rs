//! Charts as inline SVG, drawn by `kuva`. Colour is never the only difference between two series.

mod canvas;

pub(crate) mod axis;
pub(crate) mod bars;
pub(crate) mod heat;
pub(crate) mod plot;
pub(crate) mod style;
