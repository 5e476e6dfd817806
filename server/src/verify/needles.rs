//! Needle probes: chunks with one fact each in the model's own prompt format, a question that asks for one, and the
//! next token under the probed mode, under plain reuse and under full prefill.

use ragweave_engine::{Mode, PromptSegments};

use super::VerifyError;
use super::judge::Needles;
use super::prompts::{Bench, Stored};
use crate::fidelity::{self, Fidelity};
use crate::prompt::PromptFormat;

/// Who lives where. Every prompt holds some of these and asks for one.
const FACTS: [(&str, &str); 8] = [
    ("Rosa", "Oslo"),
    ("Emil", "Lima"),
    ("Dora", "Cairo"),
    ("Otto", "Delhi"),
    ("Vera", "Boston"),
    ("Lars", "Madrid"),
    ("Runa", "Dublin"),
    ("Gus", "Havana"),
];
/// Facts per prompt; fewer where the context is short.
const FACTS_AT_ONCE: usize = 6;

/// Asks as many questions as there are facts; each prompt holds the facts in another order.
pub(super) async fn run(
    bench: &Bench<'_>,
    prompt: &PromptFormat,
    mode: &Mode,
) -> Result<Needles, VerifyError> {
    let mut chunks = Vec::with_capacity(FACTS.len());
    for (name, town) in FACTS {
        let ids = prompt.chunk_ids(&format!("{name} lives in {town}."))?;
        let kv = bench.kv(&ids).await?;
        chunks.push((ids, kv));
    }
    let longest = chunks.iter().map(|(ids, _)| ids.len()).max().unwrap_or(1);
    let at_once = FACTS_AT_ONCE.min(bench.room / 2 / longest).max(1);
    let (mut full, mut probed, mut reused) = (Vec::new(), Vec::new(), Vec::new());
    for (asked, (name, _)) in FACTS.iter().enumerate() {
        let order = order(asked, at_once);
        let ids: Vec<&[u32]> = order
            .iter()
            .map(|&fact| chunks[fact].0.as_slice())
            .collect();
        let question = format!("Where does {name} live?");
        let segments: PromptSegments = prompt.segments(None, &ids, &question)?;
        let stored: Vec<Stored> = order
            .iter()
            .enumerate()
            .map(|(place, &fact)| match place {
                0 => Stored::InPlace(chunks[fact].1.clone()),
                _ => Stored::Moved(chunks[fact].1.clone()),
            })
            .collect();
        full.extend(bench.trace(&segments, &stored, Mode::Full).await?.logits);
        probed.extend(bench.trace(&segments, &stored, mode.clone()).await?.logits);
        reused.extend(bench.trace(&segments, &stored, Mode::Reuse).await?.logits);
    }
    Ok(Needles {
        probed: fidelity::compare(&full, &probed).unwrap_or(LOST),
        reuse: fidelity::compare(&full, &reused).unwrap_or(LOST),
    })
}

/// Logits that are not finite: as far off as can be.
const LOST: Fidelity = Fidelity {
    positions: FACTS.len(),
    mean_kl: f64::MAX,
    max_kl: f64::MAX,
    top1_agreement: 0.0,
};

/// The facts of one prompt, the asked one among them; over all prompts it stands at every place.
fn order(asked: usize, at_once: usize) -> Vec<usize> {
    let place = asked % at_once;
    (0..at_once)
        .map(|i| (asked + FACTS.len() + i - place) % FACTS.len())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_holds_its_fact_and_no_other_twice() {
        for at_once in 1..=FACTS_AT_ONCE {
            for asked in 0..FACTS.len() {
                let mut facts = order(asked, at_once);
                assert_eq!(facts[asked % at_once], asked);
                facts.sort_unstable();
                facts.dedup();
                assert_eq!(facts.len(), at_once);
            }
        }
    }
}
