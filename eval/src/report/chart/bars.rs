//! Stacked horizontal bars: the parts of a time, one bar per mode.

use kuva::plot::bar::BarPlot;
use kuva::plot::fill_pattern::FillPattern;
use kuva::plot::line::LinePlot;
use kuva::render::color::Color;
use kuva::render::plots::Plot as Series;
use kuva::render::render::{Primitive, Scene, render_multiple};
use maud::Markup;

use super::axis::{Axis, short};
use super::canvas::{Margins, layout, picture, room, shortened, text};

const WIDTH: f64 = 640.0;
const BAR_STEP: f64 = 30.0;
const NAME_SIZE: u32 = 12;
const MAX_NAME: usize = 34;

/// A part that every bar may have: its fill is a colour with a pattern over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) pattern: FillPattern,
}

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// One value per part; zero where it has none.
    pub(crate) parts: Vec<f64>,
    /// Drawn as a thin line below the bar: what ran at the same time.
    pub(crate) beside: Option<f64>,
}

/// Bars over one axis.
#[derive(Debug)]
pub(crate) struct Bars<'a> {
    pub(crate) title: String,
    pub(crate) axis_label: &'a str,
    pub(crate) parts: &'a [Part],
    pub(crate) bars: Vec<Bar>,
}

impl Part {
    /// A small area of the part, for legends.
    pub(crate) fn sample(&self) -> Markup {
        let mut scene = Scene::new(22.0, 12.0);
        scene.defs.push(self.pattern.svg_def().to_owned());
        let area = area([0.5, 0.5], [21.0, 11.0], self.colour.into());
        scene.elements.extend(self.hatch(&area));
        scene.elements.insert(0, area);
        picture(&scene, "key", self.name)
    }

    /// The pattern over an area of the part.
    fn hatch(&self, element: &Primitive) -> Option<Primitive> {
        match element {
            Primitive::Rect {
                x,
                y,
                width,
                height,
                fill,
                ..
            } if self.pattern != FillPattern::Solid && fill.to_svg_string() == self.colour => {
                let fill = Color::Css(format!("url(#{})", self.pattern.id()).into());
                Some(area([*x, *y], [*width, *height], fill))
            }
            _ => None,
        }
    }
}

fn area([x, y]: [f64; 2], [width, height]: [f64; 2], fill: Color) -> Primitive {
    Primitive::Rect {
        x,
        y,
        width,
        height,
        fill,
        stroke: None,
        stroke_width: None,
        opacity: None,
    }
}

impl Bar {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }
}

impl Bars<'_> {
    /// None if no bar has a length.
    pub(crate) fn svg(&self) -> Option<Markup> {
        let bars = self.bars.iter();
        let lengths = bars.flat_map(|bar| [bar.total(), bar.beside.unwrap_or(0.0)]);
        let longest = lengths.fold(0.0, f64::max);
        let axis = Axis::linear(self.axis_label, [0.0, longest * 1.05], [0.0, f64::MAX])?;
        (longest > 0.0).then(|| self.drawn(&axis))
    }

    fn drawn(&self, axis: &Axis) -> Markup {
        let n = self.bars.len() as f64;
        let names = self.bars.iter().rev();
        let names: Vec<String> = names.map(|bar| shortened(&bar.name, MAX_NAME)).collect();
        let margins = Margins {
            left: room(names.iter().map(String::as_str), f64::from(NAME_SIZE)) + 16.0,
            right: 46.0,
            top: 26.0,
            bottom: 40.0,
        };
        let size = [WIDTH, margins.top + n * BAR_STEP + margins.bottom];
        let layout = layout([axis.range(), (0.5, n + 0.5)], size, &margins);
        let layout = axis
            .below(layout)
            .with_title(self.title.as_str())
            .with_y_categories(names)
            .with_title_size(13)
            .with_label_size(NAME_SIZE)
            .with_tick_size(NAME_SIZE);
        let mut scene = render_multiple(self.series(), layout);
        self.hatch(&mut scene);
        self.write_totals(&mut scene, axis, &margins);
        picture(&scene, "bars", &self.title)
    }

    /// From the bottom up, as the axis counts.
    fn series(&self) -> Vec<Series> {
        let plot = BarPlot::new().with_width(0.5).with_stacked();
        let mut plot = plot.with_horizontal(true);
        let mut titles = Vec::new();
        let mut beside: Vec<Series> = Vec::new();
        for (place, bar) in (1..).map(f64::from).zip(self.bars.iter().rev()) {
            let mut parts = Vec::new();
            for (part, &value) in self.parts.iter().zip(&bar.parts) {
                if value > 0.0 {
                    let (name, unit) = (part.name, self.axis_label);
                    titles.push(format!("{}: {name} {} {unit}", bar.name, short(value)));
                    parts.push((value, part.colour));
                }
            }
            plot = plot.with_group(bar.name.as_str(), parts);
            beside.extend(bar.beside.filter(|&value| value > 0.0).map(|value| {
                let ends = [(0.0, place - 0.36), (value, place - 0.36)];
                LinePlot::new().with_data(ends).into()
            }));
        }
        let bars = Series::Bar(plot.with_tooltip_labels(titles));
        [bars].into_iter().chain(beside).collect()
    }

    /// Puts each part's pattern over its areas.
    fn hatch(&self, scene: &mut Scene) {
        let hatched = |element: Primitive| {
            let pattern = self.parts.iter().find_map(|part| part.hatch(&element));
            [Some(element), pattern].into_iter().flatten()
        };
        let parts = self.parts.iter();
        let definitions = parts.map(|part| part.pattern.svg_def().to_owned());
        scene.defs.extend(definitions);
        let elements = std::mem::take(&mut scene.elements).into_iter();
        scene.elements = elements.flat_map(hatched).collect();
    }

    fn write_totals(&self, scene: &mut Scene, axis: &Axis, margins: &Margins) {
        for (n, bar) in self.bars.iter().enumerate() {
            let room = WIDTH - margins.left - margins.right;
            let x = margins.left + axis.place(bar.total()) * room + 4.0;
            let y = margins.top + (n as f64 + 0.5) * BAR_STEP + 4.0;
            scene.add(text([x, y], &short(bar.total()), NAME_SIZE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 2] = [
        Part {
            name: "wait",
            colour: "#c8402f",
            pattern: FillPattern::DiagonalCrosshatch,
        },
        Part {
            name: "compute",
            colour: "#0b62a8",
            pattern: FillPattern::Solid,
        },
    ];

    fn bars(parts: Vec<f64>) -> Bars<'static> {
        Bars {
            title: "TTFT".to_owned(),
            axis_label: "ms",
            parts: &PARTS,
            bars: vec![Bar {
                name: "hkvd@2:0.15".to_owned(),
                parts,
                beside: Some(1.0),
            }],
        }
    }

    #[test]
    fn parts_follow_one_another_and_empty_ones_are_left_out() {
        let svg = bars(vec![1.0, 2.0]).svg().unwrap().into_string();
        assert!(svg.contains("wait 1 ms") && svg.contains("compute 2 ms"));
        let hatched = |svg: &str| svg.matches("url(#").count();
        assert_eq!(
            hatched(&svg),
            1 + 1,
            "the waiting, and the crate's own clip"
        );
        let svg = bars(vec![0.0, 2.0]).svg().unwrap().into_string();
        assert!(!svg.contains("wait"));
        assert_eq!(hatched(&svg), 1);
    }

    #[test]
    fn bars_without_length_make_no_chart() {
        let mut bars = bars(vec![0.0, 0.0]);
        bars.bars[0].beside = None;
        assert!(bars.svg().is_none());
    }
}
