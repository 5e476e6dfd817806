//! Does the built-in embedder find the right note? A small corpus with known answers, and one
//! score worked out by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::BTreeMap;
use std::f32::consts::LN_2;

use ragweave_retriever::{Embedder, Filter, LexicalEmbedder, VectorIndex};

const CORPUS: [(&str, &str); 12] = [
    (
        "ferry",
        "The ferry to Orsk leaves from the stone pier at nine. Captain Ilse Varn commands it.",
    ),
    (
        "pier",
        "The stone pier was built in 1874 after the great storm. It is the oldest in Brindle.",
    ),
    (
        "mill",
        "Old Tomas Reed runs the water mill. The mill grinds rye for every baker in Brindle.",
    ),
    (
        "baker",
        "Mara Quill bakes rye bread and sells it on the market square on Fridays.",
    ),
    (
        "light",
        "The lighthouse keeper, Edda Moss, lights lamp number 7 at dusk and writes the log.",
    ),
    (
        "log",
        "The harbour log of 1902 tells of a whale that was seen off the northern cape.",
    ),
    (
        "school",
        "The village school has two rooms. Mr Hale teaches reading and Miss Orme sums.",
    ),
    (
        "fair",
        "At the midsummer fair the children race in sacks and the smith judges the ponies.",
    ),
    (
        "smith",
        "Gerrit the smith shoes ponies and mends anchors. His forge stands by the river.",
    ),
    (
        "river",
        "The river Ansel rises in the hills and turns the wheel of the water mill.",
    ),
    ("tower", "東京タワーは港区にある。"),
    (
        "cafe",
        "The Caf\u{e9} Zum Anker serves \u{c4}pfel with cream.",
    ),
];

const QUESTIONS: [(&str, &str); 13] = [
    ("Who commands the ferry to Orsk?", "ferry"),
    ("When was the stone pier built?", "pier"),
    ("Who runs the water mill?", "mill"),
    ("Where can I buy rye bread?", "baker"),
    ("Who is the lighthouse keeper?", "light"),
    ("What does the harbour log of 1902 tell?", "log"),
    ("Who teaches reading at the village school?", "school"),
    ("What do the children do at the midsummer fair?", "fair"),
    ("Who shoes ponies and mends anchors?", "smith"),
    ("Where does the river Ansel rise?", "river"),
    ("港区のタワー", "tower"),
    ("CAFE\u{301} ZUM ANKER", "cafe"),
    ("lamp 7", "light"),
];

fn index() -> VectorIndex {
    let mut index = VectorIndex::default();
    for (id, text) in CORPUS {
        let embedding = LexicalEmbedder.embed_document(text).unwrap();
        index
            .insert(&format!("{id}#0"), id, &BTreeMap::new(), embedding)
            .unwrap();
    }
    index
}

fn best(index: &VectorIndex, question: &str) -> Option<(String, f32)> {
    let query = LexicalEmbedder.embed_query(question).unwrap();
    let hits = index.search(&query, 1, &Filter::default()).unwrap();
    hits.into_iter()
        .next()
        .map(|hit| (hit.document_id, hit.score))
}

#[test]
fn each_question_finds_its_note() {
    let index = index();
    for (question, answer) in QUESTIONS {
        let found = best(&index, question).map(|(id, _)| id);
        assert_eq!(found.as_deref(), Some(answer), "{question}");
    }
}

/// Notes and questions in Korean, Chinese and Japanese. Particles and endings follow a Korean word without a space; the
/// other two are written without any.
const EAST_ASIAN: [(&str, &str, &str); 9] = [
    (
        "seoul",
        "서울의 겨울은 춥고 건조하다. 한강은 가끔 언다.",
        "서울은 겨울에 추운가요?",
    ),
    (
        "busan",
        "부산은 바다에 접한 항구 도시로, 해산물 시장이 유명하다.",
        "항구 도시에서 해산물 시장을 찾는다",
    ),
    (
        "hangul",
        "한글은 세종대왕이 1443년에 만들었다.",
        "세종대왕은 언제 한글을 만들었나?",
    ),
    (
        "beijing",
        "北京是中国的首都，故宫位于市中心。",
        "中国的首都在哪里？",
    ),
    (
        "shanghai",
        "上海的外滩有许多历史建筑，黄浦江从旁边流过。",
        "外滩旁边是哪条江？",
    ),
    (
        "panda",
        "大熊猫生活在四川的竹林里，主要吃竹子。",
        "熊猫吃什么？",
    ),
    (
        "kyoto",
        "京都は千年以上の間、日本の都であった。金閣寺が有名である。",
        "金閣寺はどこにありますか",
    ),
    (
        "fuji",
        "富士山は日本で一番高い山で、高さは3776メートルである。",
        "日本で一番高い山",
    ),
    (
        "sushi",
        "寿司は酢飯に魚をのせた料理で、江戸時代に広まった。",
        "江戸時代に広まった料理は何か",
    ),
];

#[test]
fn questions_in_korean_chinese_and_japanese_find_their_note() {
    let mut index = VectorIndex::default();
    for (id, text, _) in EAST_ASIAN {
        let embedding = LexicalEmbedder.embed_document(text).unwrap();
        index
            .insert(&format!("{id}#0"), id, &BTreeMap::new(), embedding)
            .unwrap();
    }
    for (id, _, question) in EAST_ASIAN {
        let found = best(&index, question).map(|(id, _)| id);
        assert_eq!(found.as_deref(), Some(id), "{question}");
    }
}

#[test]
fn a_question_of_unknown_words_finds_nothing() {
    assert_eq!(best(&index(), "zebra xylophone"), None);
}

#[test]
fn a_removed_note_gives_way_to_the_next_best() {
    let mut index = index();
    assert_eq!(index.remove_document("mill"), 1);
    let (found, _) = best(&index, "Who runs the water mill?").unwrap();
    assert_eq!(found, "river");
}

/// Two documents, "red fox" and "red red dog"; the query is "red fox".
///
/// Length factors: 1.2 x (0.25 + 0.75 x 2/256) = 0.30703 and 1.2 x (0.25 + 0.75 x 3/256) = 0.31055.
/// IDF of `red`, in 2 of 2: ln(1 + 0.5/2.5) = 0.18232; of `fox` and `red fox`, in 1 of 2:
/// ln(1 + 1.5/1.5) = 0.69315. The pair counts half in the document and half in the query.
#[test]
fn scores_are_bm25_worked_out_by_hand() {
    let mut index = VectorIndex::default();
    for (id, text) in [("fox", "red fox"), ("dog", "red red dog")] {
        let embedding = LexicalEmbedder.embed_document(text).unwrap();
        index
            .insert(&format!("{id}#0"), id, &BTreeMap::new(), embedding)
            .unwrap();
    }
    let query = LexicalEmbedder.embed_query("red fox").unwrap();
    let hits = index.search(&query, 2, &Filter::default()).unwrap();
    let once = 2.2 / 1.30703;
    let rare = LN_2; // ln(1 + 1.5/1.5)
    let fox = 0.18232 * once + rare * once + rare * 0.25 * once;
    let dog = 0.18232 * 2.0 * 2.2 / 2.31055;
    assert_eq!((&*hits[0].chunk_id, &*hits[1].chunk_id), ("fox#0", "dog#0"));
    assert!(
        (hits[0].score - fox).abs() < 1e-4,
        "{} is not {fox}",
        hits[0].score
    );
    assert!(
        (hits[1].score - dog).abs() < 1e-4,
        "{} is not {dog}",
        hits[1].score
    );
}
