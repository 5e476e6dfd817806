//! What every chart is drawn with: a layout, pieces of text, and an element for the page.

use kuva::backend::svg::SvgBackend;
use kuva::render::layout::Layout;
use kuva::render::render::{Primitive, Scene, TextAnchor};
use maud::{Markup, PreEscaped, html};

/// How wide a character is, as a share of its size; a little too wide, so that space reserved by it
/// suffices in any font.
const CHAR_WIDTH: f64 = 0.66;

/// How much room the longest of these takes.
pub(super) fn room<'a>(names: impl IntoIterator<Item = &'a str>, size: f64) -> f64 {
    let lengths = names.into_iter().map(|name| name.chars().count());
    lengths.max().unwrap_or(0) as f64 * size * CHAR_WIDTH
}

/// Space around the frame of a chart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Margins {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// A layout of this size. Its text is large, because pages scale charts down.
pub(super) fn layout(
    axes: [(f64, f64); 2],
    [width, height]: [f64; 2],
    margins: &Margins,
) -> Layout {
    let mut layout = Layout::new(axes[0], axes[1])
        .with_width(width)
        .with_height(height)
        .with_x_axis_min(axes[0].0)
        .with_x_axis_max(axes[0].1)
        .with_y_axis_min(axes[1].0)
        .with_y_axis_max(axes[1].1)
        .with_force_margins(margins.left, margins.right)
        .with_force_margins_y(margins.top, margins.bottom)
        .with_box_axes()
        .with_title_size(21)
        .with_label_size(18)
        .with_tick_size(17);
    layout.theme.grid_color = "#e6e6e6".to_owned();
    layout.theme.axis_color = "#8a8a8a".to_owned();
    layout
}

/// A piece of text that begins at a place of the drawing.
pub(super) fn text([x, y]: [f64; 2], content: &str, size: u32) -> Primitive {
    Primitive::Text {
        x,
        y,
        content: content.to_owned(),
        size,
        anchor: TextAnchor::Start,
        rotate: None,
        bold: false,
        color: None,
    }
}

/// A drawing as an element of a page, which the page scales; `label` is for those who cannot see it.
pub(super) fn picture(scene: &Scene, class: &str, label: &str) -> Markup {
    let text = SvgBackend.render_scene(scene);
    // Only the content: the crate's own element cannot be scaled.
    let inner = text.split_once('>').map_or("", |(_, inner)| inner);
    let inner = inner.strip_suffix("</svg>").unwrap_or(inner);
    html! {
        svg class=(class) width=(scene.width) height=(scene.height)
            viewBox=(format!("0 0 {} {}", scene.width, scene.height)) role="img"
            aria-label=(label) aria-hidden=[label.is_empty().then_some("true")] {
            (PreEscaped(inner))
        }
    }
}

/// At most this many characters; the last is an ellipsis where some were left out.
pub(super) fn shortened(text: &str, max: usize) -> String {
    match text.chars().count() > max {
        true => text
            .chars()
            .take(max.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}

/// The layout with nothing but what is drawn in it.
pub(super) fn without_axes(layout: Layout) -> Layout {
    let mut layout = layout.with_show_grid(false).with_axis_line_width(0.0);
    layout.suppress_x_ticks = true;
    layout.suppress_y_ticks = true;
    layout
}
