//! Pieces put together are the whole text, and no piece ends inside a character.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn codec() -> TextCodec {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    TextCodec::from_dir(&dir).unwrap()
}

fn pieces(codec: &TextCodec, ids: &[u32]) -> Vec<String> {
    let mut detokenizer = codec.detokenizer();
    let mut pieces: Vec<String> = ids
        .iter()
        .filter_map(|id| detokenizer.push(*id).unwrap())
        .collect();
    pieces.push(detokenizer.finish().unwrap());
    pieces
}

#[test]
fn a_character_of_several_tokens_comes_out_whole() {
    let codec = codec();
    let ids = codec.encode_plain("a日b").unwrap();
    assert!(
        ids.len() > 3,
        "the fixture must spell the character in bytes: {ids:?}"
    );
    assert_eq!(pieces(&codec, &ids), ["a", "日", "b", ""]);
}

#[test]
fn a_character_that_is_never_completed_comes_out_at_the_end() {
    let codec = codec();
    let ids = codec.encode_plain("a日").unwrap();
    assert_eq!(pieces(&codec, &ids[..ids.len() - 1]), ["a", "\u{fffd}"]);
}

#[test]
fn special_tokens_have_no_text_and_take_no_room() {
    let codec = codec();
    let mut detokenizer = codec.detokenizer();
    for _ in 0..1000 {
        assert_eq!(detokenizer.push(2).unwrap(), None);
    }
    assert_eq!(detokenizer.window.len(), 0);
    assert_eq!(
        detokenizer
            .push(codec.encode_plain("x").unwrap()[0])
            .unwrap()
            .unwrap(),
        "x"
    );
}

#[test]
fn endless_broken_bytes_do_not_grow_the_window() {
    let codec = codec();
    let broken = codec.encode_plain("日").unwrap()[0];
    let mut detokenizer = codec.detokenizer();
    let mut text = String::new();
    for _ in 0..1000 {
        text += &detokenizer.push(broken).unwrap().unwrap_or_default();
        assert!(detokenizer.window.len() <= 2 * MAX_PENDING_TOKENS + 2);
    }
    assert!(text.chars().count() > 900 && text.chars().all(|c| c == '\u{fffd}'));
}

proptest! {
    #[test]
    fn pieces_of_any_text_make_the_text(text in "\\PC{0,40}") {
        let codec = codec();
        let ids = codec.encode_plain(&text).unwrap();
        let pieces = pieces(&codec, &ids);
        prop_assert_eq!(pieces.concat(), codec.decode(&ids, true).unwrap());
        prop_assert_eq!(pieces.concat(), text.clone());
        if !text.contains('\u{fffd}') {
            let whole = |piece: &String| !piece.contains(char::REPLACEMENT_CHARACTER);
            prop_assert!(pieces.iter().all(whole));
        }
    }

    #[test]
    fn pieces_of_any_ids_make_their_text(ids in prop::collection::vec(0_u32..1130, 0..60)) {
        let codec = codec();
        prop_assert_eq!(pieces(&codec, &ids).concat(), codec.decode(&ids, true).unwrap());
    }
}
