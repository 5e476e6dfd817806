//! What is parsed, what is printed and what is refused.

use super::*;

#[test]
fn modes_are_printed_as_they_are_read() {
    for text in [
        "full",
        "reuse",
        "all",
        "hkvd@2:0.1",
        "hkvd@1/k/gradual:0.2",
        "hkvd@0/v:0.05",
        "first-k:0.15",
        "random:0.1",
        "random@7:0.1",
        "query:0.1",
        "query/all/max:0.1",
        "anchors:0.1",
        "anchors@1.3/final:0.1",
        "oracle/v:0.3",
        "first-k+query/all~score~mean:0.05",
        "hkvd@2~length:0.1",
    ] {
        assert_eq!(text.parse::<Mode>().unwrap().to_string(), text);
    }
    let [short, long] = ["hkvd:0.1", "hkvd@1/kv/fixed:0.1"].map(str::parse::<Mode>);
    assert_eq!(short, long);
    assert_eq!(
        "first-k+hkvd@2".parse::<Policy>().unwrap().to_string(),
        "first-k+hkvd@2"
    );
    assert_eq!("all".parse(), Ok(Policy::All));
}

#[test]
fn bad_notation_is_refused_with_the_reason() {
    for (text, reason) in [
        ("", "`` is not a policy"),
        ("hkvd", "ratio are missing"),
        ("hkvd@2:", "not a number"),
        ("hkvd@x:0.1", "whole number"),
        ("hkvd/q:0.1", "`/q` is not an option of hkvd"),
        ("first-k@1:0.1", "first-k takes no `@`"),
        ("first-k/k:0.1", "not an option of first-k"),
        ("query/k:0.1", "not an option of query"),
        ("anchors@1.:0.1", "whole number"),
        ("random:1.5", "between 0 and 1"),
        ("random:NaN", "between 0 and 1"),
        (
            "best:0.1",
            "known are hkvd, first-k, query, anchors, random, oracle",
        ),
        ("hkvd+:0.1", "`` is not a policy"),
        ("hkvd~even:0.1", "`~even` is not one of"),
        ("all:1", "takes neither modifiers nor a ratio"),
    ] {
        let error = text.parse::<Mode>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn the_ratio_of_a_selection_may_be_left_out() {
    let blend = |text: &str| text.parse::<PartialBlend>().unwrap();
    let whole = blend("first-k+query/all~score~mean:0.05");
    assert_eq!(whole.selection.budget, Budget::Score);
    assert_eq!(whole.selection.correction, Correction::Mean);
    assert_eq!(whole.ratio, Some(Ratio::of_percent(5)));
    let open = blend("first-k");
    assert_eq!(open.selection, Selection::new(Policy::FirstK));
    assert_eq!(open.ratio, None);
    assert_eq!(blend("hkvd"), blend("hkvd@1/kv/fixed"));
    assert_eq!(blend("random"), blend("random@0"));
}

#[test]
fn a_selection_that_cannot_be_read_says_why() {
    for (text, reason) in [
        (
            "best",
            "known are hkvd, first-k, query, anchors, random, oracle",
        ),
        ("full", "write it as mode `full`"),
        ("hkvd~even", "`~even` is not one of"),
        ("hkvd:2", "the ratio 2 is not between 0 and 1"),
        ("hkvd:NaN", "the ratio NaN is not between 0 and 1"),
        ("hkvd:x", "the ratio `x` is not a number"),
        ("all~score", "takes neither modifiers nor a ratio"),
        ("all:1", "takes neither modifiers nor a ratio"),
        ("first-k+all", "`all` is not a policy"),
    ] {
        let error = text.parse::<PartialBlend>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let error = "hkvd@2:0.1".parse::<Selection>().unwrap_err().to_string();
    assert!(error.contains("write ratio = 0.1"), "{error}");
}

#[test]
fn serde_reads_and_writes_the_notation() {
    let mode = |text: &str| serde_json::from_value::<Mode>(text.into());
    assert_eq!(
        serde_json::to_value(mode("hkvd@2:0.1").unwrap()).unwrap(),
        "hkvd@2:0.1"
    );
    assert!(mode("hkvd@2").unwrap_err().to_string().contains("ratio"));
    let selection = serde_json::from_value::<Selection>("query/all~mean".into()).unwrap();
    assert_eq!(serde_json::to_value(selection).unwrap(), "query/all~mean");
}
