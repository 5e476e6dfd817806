//! Numbers and paths as SVG writes them.

use std::fmt::Write as _;

/// A length or coordinate with at most one decimal.
pub(crate) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// A closed path through the corners.
pub(crate) fn polygon(corners: impl IntoIterator<Item = [f64; 2]>) -> String {
    let mut path = polyline(corners);
    path.push('z');
    path
}

/// An open path through the places.
pub(crate) fn polyline(places: impl IntoIterator<Item = [f64; 2]>) -> String {
    let mut path = String::new();
    for (n, [x, y]) in places.into_iter().enumerate() {
        let command = if n == 0 { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        let _ = write!(path, "{command}{} {}", px(x), px(y));
    }
    path
}

/// A regular polygon with a corner at the top, turned by `degrees`.
pub(crate) fn regular([x, y]: [f64; 2], corners: u32, radius: f64, degrees: f64) -> String {
    let turn = 360.0 / f64::from(corners);
    polygon((0..corners).map(|n| {
        let angle = (f64::from(n) * turn + degrees).to_radians();
        [x + radius * angle.sin(), y - radius * angle.cos()]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_short_and_closed_where_they_should_be() {
        assert_eq!(polyline([[0.0, 1.25], [2.0, 3.0]]), "M0 1.2L2 3");
        assert_eq!(regular([0.0, 0.0], 4, 1.0, 0.0), "M0 -1L1 0L0 1L-1 0z");
    }
}
