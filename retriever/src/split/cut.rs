//! Pure arithmetic on spans of a text: where to cut, and what a list of spans leaves out.

use crate::split::span::ChunkSpan;

/// Kinds of border, best first. A cut is made after the pattern.
const BORDERS: [&str; 4] = ["\n\n", "\n", ". ", " "];

/// End of the part of `text` that begins at `start` and has at most `max_bytes` bytes: the end of
/// the text, or after the last line feed or space of its second half, or any char border.
pub(super) fn border_at_or_before(text: &str, start: usize, max_bytes: usize) -> usize {
    if text.len() - start <= max_bytes {
        return text.len();
    }
    let end = text.floor_char_boundary(start + max_bytes);
    let half = text.ceil_char_boundary(start + max_bytes / 2);
    let tail = &text[half..end];
    let after = tail
        .rfind('\n')
        .or_else(|| tail.rfind(' '))
        .map(|at| half + at + 1);
    after.unwrap_or(end)
}

/// The two parts of a span, cut at the best border near its middle, without the white space at
/// their ends (a blank part is `None`); `None` for a single character.
pub(super) fn halve(text: &str, span: ChunkSpan) -> Option<[Option<ChunkSpan>; 2]> {
    let part = &text[span.start..span.end];
    let middle = part.floor_char_boundary(part.len() / 2);
    let cut = border_near(part, middle)
        .or_else(|| Some(middle).filter(|&at| at > 0))
        .or_else(|| {
            part.chars()
                .next()
                .map(char::len_utf8)
                .filter(|&at| at < part.len())
        })?;
    let at = span.start + cut;
    let left = trimmed(
        text,
        ChunkSpan {
            start: span.start,
            end: at,
        },
    );
    let right = trimmed(
        text,
        ChunkSpan {
            start: at,
            end: span.end,
        },
    );
    Some([left, right])
}

/// The best border in the middle half of `part` that leaves text on both sides.
fn border_near(part: &str, middle: usize) -> Option<usize> {
    let low = part.ceil_char_boundary(middle / 2);
    let high = part.floor_char_boundary(middle + middle / 2);
    BORDERS.iter().find_map(|border| {
        let before = part[low..middle]
            .rfind(border)
            .map(|at| low + at + border.len());
        let after = part[middle..high]
            .find(border)
            .map(|at| middle + at + border.len());
        let nearest = [before, after]
            .into_iter()
            .flatten()
            .min_by_key(|at| at.abs_diff(middle))?;
        let (left, right) = part.split_at(nearest);
        (!left.trim().is_empty() && !right.trim().is_empty()).then_some(nearest)
    })
}

/// The spans in order, without overlaps, and with every non-blank part of `window` that they leave
/// out added.
pub(super) fn cover(
    text: &str,
    window: ChunkSpan,
    spans: impl Iterator<Item = ChunkSpan>,
) -> Vec<ChunkSpan> {
    let mut covered = Vec::new();
    let mut at = window.start;
    for span in spans {
        if span.end <= at {
            continue;
        }
        let start = span.start.max(at);
        covered.extend(trimmed(
            text,
            ChunkSpan {
                start: at,
                end: start,
            },
        ));
        covered.extend(
            Some(ChunkSpan {
                start,
                end: span.end,
            })
            .filter(|s| !is_blank(text, *s)),
        );
        at = span.end;
    }
    covered.extend(trimmed(
        text,
        ChunkSpan {
            start: at,
            end: window.end,
        },
    ));
    covered
}

/// The span without white space at its ends; `None` if nothing is left.
fn trimmed(text: &str, span: ChunkSpan) -> Option<ChunkSpan> {
    let part = &text[span.start..span.end];
    let start = span.start + (part.len() - part.trim_start().len());
    let end = span.start + part.trim_end().len();
    (start < end).then_some(ChunkSpan { start, end })
}

fn is_blank(text: &str, span: ChunkSpan) -> bool {
    text[span.start..span.end].trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize) -> ChunkSpan {
        ChunkSpan { start, end }
    }

    #[test]
    fn a_window_ends_after_a_line_or_word() {
        assert_eq!(border_at_or_before("short", 0, 10), 5);
        assert_eq!(border_at_or_before("aaaa bbb\ncccc dddd", 0, 12), 9);
        assert_eq!(border_at_or_before("aaaaaaaaaaaaaaaaaa", 0, 12), 12);
        assert_eq!(border_at_or_before("ééééé", 0, 5), 4);
    }

    #[test]
    fn halves_prefer_paragraphs_then_sentences() {
        let text = "One two three. Four five\n\nsix seven. Eight nine";
        let [left, right] = halve(text, span(0, text.len()))
            .unwrap()
            .map(Option::unwrap);
        assert_eq!(&text[left.start..left.end], "One two three. Four five");
        assert_eq!(&text[right.start..right.end], "six seven. Eight nine");
    }

    #[test]
    fn halving_ends_at_single_characters() {
        assert_eq!(halve("é", span(0, 2)), None);
        assert_eq!(
            halve("aé", span(0, 3)),
            Some([Some(span(0, 1)), Some(span(1, 3))])
        );
        assert_eq!(
            halve("éa", span(0, 3)),
            Some([Some(span(0, 2)), Some(span(2, 3))])
        );
        assert_eq!(halve("    é", span(0, 6)), Some([None, Some(span(4, 6))]));
    }

    #[test]
    fn cover_fills_gaps_and_removes_overlap() {
        let text = "abc  def ghi";
        let spans = [span(0, 2), span(1, 3), span(5, 6)].into_iter();
        let covered = cover(text, span(0, 12), spans);
        assert_eq!(covered, [span(0, 2), span(2, 3), span(5, 6), span(6, 12)]);
        assert!(cover("   ", span(0, 3), std::iter::empty()).is_empty());
    }
}
