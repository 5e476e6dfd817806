//! Limits the size of what an answer reports about its sources. An answer too large for its caller is refused before
//! any work is done for it.

use super::error::AnswerError;
use super::passage::Passage;

/// Most bytes that tags and lengths take in a message, for one map entry and for the other fields of one source.
const ENTRY_BYTES: usize = 18;
const FIELDS_BYTES: usize = 80;

/// Keeps sources within `limit` bytes. Only dropped passages are cut, since they are not in the prompt: first the text
/// and metadata of all of them, then the lowest-ranked ones entirely.
///
/// # Errors
/// [`AnswerError::SourcesTooLarge`] if the passages of the prompt alone are too large.
pub(super) fn fit(
    passages: &[Passage],
    dropped: &mut Vec<Passage>,
    limit: usize,
) -> Result<(), AnswerError> {
    let bytes = size(passages);
    if bytes > limit {
        return Err(AnswerError::SourcesTooLarge { bytes, limit });
    }
    let room = limit - bytes;
    if size(dropped) <= room {
        return Ok(());
    }
    for passage in &mut *dropped {
        passage.text.clear();
        passage.metadata.clear();
    }
    while size(dropped) > room {
        dropped.pop();
    }
    Ok(())
}

/// A close upper bound on the bytes that the passages take in a message.
fn size(passages: &[Passage]) -> usize {
    let entry = |(key, value): (&String, &String)| key.len() + value.len() + ENTRY_BYTES;
    let of = |passage: &Passage| {
        let texts = [&passage.document_id, &passage.chunk_id, &passage.text];
        let texts: usize = texts.into_iter().map(String::len).sum();
        texts + passage.metadata.iter().map(entry).sum::<usize>() + FIELDS_BYTES
    };
    passages.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ragweave_store::BlobKey;

    use super::*;
    use crate::grpc::convert;

    fn passage(text_bytes: usize, n_entries: usize, value_bytes: usize) -> Passage {
        let entry = |i: usize| (format!("key {i}"), "v".repeat(value_bytes));
        Passage {
            document_id: "d".repeat(100),
            chunk_id: "c".repeat(110),
            start_byte: u64::MAX,
            end_byte: u64::MAX,
            score: Some(0.5),
            text: "x".repeat(text_bytes),
            metadata: (0..n_entries).map(entry).collect(),
            token_ids: vec![1; 300],
            conditioning_ids: Vec::new(),
            key: BlobKey([0; 32]),
            notes: None,
        }
    }

    #[test]
    fn the_bound_holds_and_is_close() {
        for (text, entries, value) in [(0, 0, 0), (5000, 1, 1 << 20), (70_000, 256, 300)] {
            let passage = passage(text, entries, value);
            let (bound, sent) = (
                size(std::slice::from_ref(&passage)),
                convert::source(passage).encoded_len() + 6,
            );
            assert!(bound >= sent, "{bound} < {sent}");
            assert!(
                bound <= sent + FIELDS_BYTES + ENTRY_BYTES * entries,
                "{bound}"
            );
        }
    }

    #[test]
    fn dropped_passages_give_way_first() {
        let kept = [passage(100, 1, 1000)];
        let mut dropped = vec![passage(100, 1, 1000)];
        fit(&kept, &mut dropped, 4000).unwrap();
        assert!(!dropped[0].text.is_empty());
        fit(&kept, &mut dropped, 2000).unwrap();
        assert!(dropped[0].text.is_empty() && dropped[0].metadata.is_empty());
        assert!(!dropped[0].chunk_id.is_empty());
        let refused = fit(&kept, &mut dropped, 1000).unwrap_err();
        assert!(matches!(
            refused,
            AnswerError::SourcesTooLarge { limit: 1000, .. }
        ));
    }

    #[test]
    fn dropped_passages_never_cost_the_answer() {
        let kept = [passage(100, 1, 1000)];
        let id_only = size(&[passage(0, 0, 0)]);
        for (n_left, spare) in [(0, 0), (0, id_only - 1), (1, id_only), (2, 3 * id_only - 1)] {
            let named = |i: usize| Passage {
                chunk_id: format!("{i:0110}"),
                ..passage(100, 1, 1000)
            };
            let mut dropped: Vec<_> = (0..5).map(named).collect();
            fit(&kept, &mut dropped, size(&kept) + spare).unwrap();
            let left = dropped.iter().map(|passage| passage.chunk_id.clone());
            let best: Vec<_> = (0..n_left).map(|i| named(i).chunk_id).collect();
            assert_eq!(left.collect::<Vec<_>>(), best);
        }
    }
}
