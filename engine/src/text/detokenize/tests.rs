//! The pieces join to the whole text, with every kind of tokenizer; no piece ends inside a
//! character, and none waits longer than its characters need.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::text::bytes::level_byte;
use crate::text::codec::TextCodec;

fn codec() -> TextCodec {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
    TextCodec::from_dir(&dir).unwrap()
}

fn pieces(codec: &TextCodec, ids: &[u32]) -> Vec<String> {
    let mut detokenizer = codec.detokenizer();
    let mut pieces: Vec<String> = Vec::new();
    for id in ids {
        pieces.extend(detokenizer.push(*id).unwrap());
        assert!(detokenizer.window.len() <= 5, "{:?}", detokenizer.window);
    }
    pieces.push(detokenizer.finish().unwrap());
    pieces
}

/// A tokenizer with these words after three special tokens and the 256 bytes: `<0x00>` is id 3.
fn byte_fallback(words: &[&str], decoder: &Value) -> TextCodec {
    let bytes: Vec<String> = (0..=u8::MAX)
        .map(|byte| format!("<0x{byte:02X}>"))
        .collect();
    let words: Vec<&str> = bytes
        .iter()
        .map(String::as_str)
        .chain(words.iter().copied())
        .collect();
    vocabulary(&words, decoder, &|vocab| {
        json!({"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true,
            "unk_token": "<unk>", "fuse_unk": true})
    })
}

/// A tokenizer with `<unk>`, `<s>`, `</s>` (special), these words and `<think>` (added, not special).
fn vocabulary(words: &[&str], decoder: &Value, model: &dyn Fn(&Value) -> Value) -> TextCodec {
    let mut vocab = json!({"<unk>": 0, "<s>": 1, "</s>": 2});
    for (id, word) in words.iter().enumerate() {
        vocab[*word] = json!(id + 3);
    }
    let special = |id: usize, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    };
    let definition = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": decoder, "model": model(&vocab),
        "added_tokens": [special(0, "<unk>", true), special(1, "<s>", true),
            special(2, "</s>", true), special(words.len() + 3, "<think>", false)],
    });
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("tokenizer.json"), definition.to_string()).unwrap();
    TextCodec::from_dir(dir.path()).unwrap()
}

const SENTENCE_PIECES: [&str; 14] = [
    "▁",
    "▁the",
    "▁a",
    "a",
    "b",
    "日",
    "é",
    "▁▁",
    "s",
    ".",
    "▁日",
    "▁\u{1f600}",
    "\n",
    "e\u{301}",
];

/// The decoder of Llama 2 and Mistral.
fn llama_decoder() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
}

fn llama() -> TextCodec {
    byte_fallback(&SENTENCE_PIECES, &llama_decoder())
}

fn metaspace(scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true})
}

fn unigram(decoder: &Value) -> TextCodec {
    let bytes: Vec<String> = (0..=u8::MAX)
        .map(|byte| format!("<0x{byte:02X}>"))
        .collect();
    let words: Vec<&str> = bytes
        .iter()
        .map(String::as_str)
        .chain(SENTENCE_PIECES)
        .collect();
    vocabulary(&words, decoder, &|vocab| {
        let words = vocab.as_object().unwrap().keys();
        let scored: Vec<Value> = words.map(|word| json!([word, -1.0])).collect();
        json!({"type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": true})
    })
}

fn word_piece(decoder: &Value) -> TextCodec {
    let words = [
        "don", "'", "t", "n't", "##s", "##日", ".", ",", "?", "do", "not", "do not", "'s", "é",
        "##",
    ];
    vocabulary(&words, decoder, &|vocab| {
        json!({"type": "WordPiece", "vocab": vocab, "unk_token": "<unk>",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100})
    })
}

fn words(decoder: &Value) -> TextCodec {
    let words = [
        "low</w>", "er</w>", "low", "|", "<pad>", "h", "e", "l", " x ", "x", "日</w>", "▁y",
    ];
    vocabulary(
        &words,
        decoder,
        &|vocab| json!({"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}),
    )
}

/// Every kind of decoder that a tokenizer of a language model has, and its number of ids; one more
/// is outside the vocabulary.
static KINDS: LazyLock<Vec<(&str, TextCodec, u32)>> = LazyLock::new(|| {
    let n_ids = |codec: &TextCodec| codec.decoder().tokenizer().get_vocab_size(true) as u32;
    let kinds = kinds().into_iter();
    kinds
        .map(|(kind, codec)| (kind, codec.clone(), n_ids(&codec)))
        .collect()
});

fn kinds() -> Vec<(&'static str, TextCodec)> {
    let fused = |decoders: Value| json!({"type": "Sequence", "decoders": decoders});
    vec![
        ("byte level", codec()),
        ("llama", llama()),
        (
            "gemma",
            byte_fallback(
                &SENTENCE_PIECES,
                &fused(json!([
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}])),
            ),
        ),
        (
            "byte fallback alone",
            byte_fallback(&SENTENCE_PIECES, &json!({"type": "ByteFallback"})),
        ),
        (
            "byte fallback, strip of two",
            byte_fallback(
                &SENTENCE_PIECES,
                &fused(json!([
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 2, "stop": 0}])),
            ),
        ),
        ("unigram", unigram(&metaspace("always"))),
        ("unigram, no prefix", unigram(&metaspace("never"))),
        (
            "unigram, byte fallback",
            unigram(&fused(
                json!([{"type": "ByteFallback"}, metaspace("first")]),
            )),
        ),
        (
            "word piece",
            word_piece(&json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
        ),
        (
            "word piece, no cleanup",
            word_piece(&json!({"type": "WordPiece", "prefix": "##", "cleanup": false})),
        ),
        (
            "suffix",
            words(&json!({"type": "BPEDecoder", "suffix": "</w>"})),
        ),
        (
            "ctc",
            words(
                &json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|",
            "cleanup": true}),
            ),
        ),
        ("words", words(&Value::Null)),
    ]
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
fn endless_broken_bytes_come_out_as_they_come() {
    for (codec, broken) in [
        (codec(), codec().encode_plain("日").unwrap()[0]),
        (llama(), 3 + 0xFF),
    ] {
        let text = pieces(&codec, &[broken; 1000]).concat();
        assert_eq!(text, "\u{fffd}".repeat(1000));
    }
}

#[test]
fn text_after_a_bad_byte_comes_out_at_once() {
    let (bad, the, a) = (3 + 0xFF, 260, 262);
    let given = pieces(&llama(), &[a, bad, the, a, bad, bad, a, bad]);
    let expected = [
        "a", "\u{fffd}", " the", "a", "\u{fffd}", "\u{fffd}", "a", "\u{fffd}", "",
    ];
    assert_eq!(given, expected);
}

#[test]
fn good_bytes_beside_bad_ones_keep_their_text() {
    let byte = |byte: u8| 3 + u32::from(byte);
    let ids: Vec<u32> = b"\xe6\x97\xa5\xffA\xe6\x97\n"
        .iter()
        .map(|b| byte(*b))
        .collect();
    let expected = ["日", "\u{fffd}", "A", "\u{fffd}\u{fffd}\n", ""];
    assert_eq!(pieces(&llama(), &ids), expected);
    assert_eq!(llama().decode(&ids, true).unwrap(), expected.concat());
}

#[test]
fn special_tokens_and_unknown_ids_do_not_cut_a_character() {
    let ids = [3 + 0xE6, 2, 3 + 0x97, 100_000, 3 + 0xA5];
    assert_eq!(pieces(&llama(), &ids), ["日", ""]);
    assert_eq!(llama().decode(&ids, true).unwrap(), "日");
}

#[test]
fn added_tokens_that_are_not_special_are_text() {
    let codec = llama();
    let think = codec.encode_template("<think>").unwrap()[0];
    assert_eq!(
        pieces(&codec, &[think, 260, think]),
        ["<think>", " the", "<think>", ""]
    );
}

#[test]
fn decoders_that_write_between_tokens_lose_nothing() {
    let suffix = words(&json!({"type": "BPEDecoder", "suffix": "</w>"}));
    assert_eq!(pieces(&suffix, &[3, 5, 4, 3]).concat(), "low lower low");
    assert_eq!(suffix.decode(&[], true).unwrap(), "");
    assert_eq!(suffix.detokenizer().finish().unwrap(), "");
    let word_piece = word_piece(&json!({"type": "WordPiece", "prefix": "##", "cleanup": true}));
    assert_eq!(pieces(&word_piece, &[3, 4, 5, 7, 9]).concat(), "don ' ts.");
}

#[test]
fn tokens_that_split_characters_between_them_do_not_wait() {
    // Byte-level tokens "e6", "97 a5 e6", "97 a5 e6", ...: each ends inside a character.
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let spelling = |byte: &u8| {
        *alphabet
            .iter()
            .find(|c| level_byte(**c) == Some(*byte))
            .unwrap()
    };
    let level = |bytes: &[u8]| -> String { bytes.iter().map(spelling).collect() };
    let (head, middle) = (level(b"\xe6"), level(b"\x97\xa5\xe6"));
    let decoder = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true});
    let codec = vocabulary(
        &[&head, &middle],
        &decoder,
        &|vocab| json!({"type": "BPE", "vocab": vocab, "merges": []}),
    );
    let mut ids = vec![4; 100];
    ids[0] = 3;
    let mut expected = vec!["日"; 99];
    expected.push("\u{fffd}");
    assert_eq!(pieces(&codec, &ids), expected);
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

proptest! {
    #[test]
    fn pieces_of_any_ids_make_their_text_with_every_tokenizer(
        // From the end, where the words after the bytes are, or from anywhere.
        draws in prop::collection::vec((any::<bool>(), any::<u32>()), 0..60)
    ) {
        for (kind, codec, n_ids) in KINDS.iter() {
            let ids: Vec<u32> = draws.iter()
                .map(|(near_end, n)| if *near_end { n_ids - n % 17 } else { n % n_ids })
                .collect();
            let whole = codec.decode(&ids, true).unwrap();
            prop_assert_eq!(pieces(codec, &ids).concat(), whole, "{}: {:?}", kind, ids);
        }
    }
}

#[test]
fn text_without_bad_bytes_decodes_as_in_the_library() {
    let spelled = |text: &str| text.bytes().map(|byte| 3 + u32::from(byte)).collect();
    let several: Vec<u32> = [3 + 0xE6, 3 + 0x97, 3 + 0xA5, 260, 1, 3 + 0x0A, 262, 265]
        .into_iter()
        .chain([259, 261])
        .chain(3..18)
        .collect();
    // Steps before the bytes are joined must not see their text, and none may read it as bytes.
    for ids in [several, spelled("a\u{2581}b"), spelled("<0x41>")] {
        // The library's decoder with a suffix cannot decode nothing.
        let has_text = |codec: &TextCodec| {
            ids.iter()
                .any(|id| codec.decoder().text_token(*id).is_some())
        };
        for (kind, codec, _) in KINDS.iter().filter(|(_, codec, _)| has_text(codec)) {
            let library = codec.decoder().tokenizer().decode(&ids, true).unwrap();
            assert_eq!(
                codec.decode(&ids, true).unwrap(),
                library,
                "{kind}: {ids:?}"
            );
            assert_eq!(pieces(codec, &ids).concat(), library, "{kind}: {ids:?}");
        }
    }
    assert_eq!(llama().decode(&spelled("<0x41>"), true).unwrap(), "<0x41>");
    assert_eq!(
        llama().decode(&spelled("a\u{2581}b"), true).unwrap(),
        "a\u{2581}b"
    );
}
