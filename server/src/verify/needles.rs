//! Needle probes: chunks with one fact each in the model's own prompt format, a question that asks for one, and the
//! next tokens along full prefill's answer under the probed modes, under plain reuse and under full prefill.

use std::time::{Duration, Instant};

use ragweave_engine::{Blend, Mode, Policy, PromptSegments, Ratio};

use super::error::VerifyError;
use super::judge::Tolerances;
use super::policy::{Compared, Needles, Sample, overall};
use super::prompts::{Bench, Stored};
use crate::fidelity::{self, Fidelity};
use crate::prompt::PromptFormat;

/// The facts: who lives where, and works as what. Every prompt holds some of these and asks for one.
const PEOPLE: [(&str, &str, &str); 12] = [
    ("Rosa", "Oslo", "baker"),
    ("Emil", "Lima", "pilot"),
    ("Dora", "Cairo", "nurse"),
    ("Otto", "Delhi", "painter"),
    ("Vera", "Boston", "lawyer"),
    ("Lars", "Madrid", "farmer"),
    ("Runa", "Dublin", "singer"),
    ("Gus", "Havana", "dentist"),
    ("Ines", "Tokyo", "sailor"),
    ("Karl", "Paris", "tailor"),
    ("Mona", "Quito", "judge"),
    ("Nils", "Athens", "miner"),
];
/// Facts per prompt; fewer if the context is short.
const FACTS_AT_ONCE: usize = 6;
/// Each person is asked about twice. With only eight prompts, a policy's share of reuse's loss cannot be determined.
const PROMPTS: usize = 2 * PEOPLE.len();
/// A slow machine asks fewer questions, but at least this many.
const MIN_PROMPTS: usize = 8;
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// Number of tokens of full prefill's answer along which modes are compared.
const ANSWER_TOKENS: usize = 8;
/// The ratio of the other policies if the configured mode has none.
const USUAL_RATIO: Ratio = Ratio::of_percent(15);

/// Asks the prompts under `mode`, under what could be configured instead, and under reuse. `tolerances`: of the types
/// that the model computes and stores in.
pub(super) async fn run(
    bench: &Bench<'_>,
    prompt: &PromptFormat,
    mode: &Mode,
    tolerances: Tolerances,
) -> Result<Needles, VerifyError> {
    let start = Instant::now();
    let chunks = chunks(bench, prompt).await?;
    let longest = chunks.iter().map(|chunk| chunk.ids.len()).max();
    let at_once = FACTS_AT_ONCE.min(bench.room / 2 / longest.unwrap_or(1));
    if at_once < 2 {
        return Err(VerifyError::NothingToFuse { room: bench.room });
    }
    let modes = modes(mode, bench.n_layers());
    let mut samples: Vec<Vec<Sample>> = modes.iter().map(|_| Vec::new()).collect();
    for number in 0..PROMPTS {
        if number >= MIN_PROMPTS && start.elapsed() > TIME_LIMIT {
            break;
        }
        let asked = ask(bench, prompt, &chunks, number, at_once, &modes).await?;
        let lists = samples.iter_mut().zip(asked);
        lists.for_each(|(list, sample)| list.push(sample));
    }
    let (compared, reuse) = sum_up(&modes, &samples, tolerances.kl);
    let mut compared = compared.into_iter();
    Ok(Needles {
        prompts: samples[0].len(),
        seconds: start.elapsed().as_secs_f64(),
        n_layers: Some(bench.n_layers()),
        reuse,
        probed: compared
            .next()
            .expect("the configured mode is always asked"),
        others: compared.collect(),
    })
}

struct Fact {
    ids: Vec<u32>,
    kv: Stored,
}

async fn chunks(bench: &Bench<'_>, prompt: &PromptFormat) -> Result<Vec<Fact>, VerifyError> {
    let mut chunks = Vec::with_capacity(PEOPLE.len());
    for (name, town, job) in PEOPLE {
        let ids = prompt.chunk_ids(&format!("{name} lives in {town} and works as a {job}."))?;
        let kv = Stored::Moved(bench.kv(&ids).await?);
        chunks.push(Fact { ids, kv });
    }
    Ok(chunks)
}

/// Reuse first, then the configured mode, then those that could be configured instead, as far as the model has the
/// layers; none twice.
fn modes(configured: &Mode, n_layers: usize) -> Vec<Mode> {
    let ratio = match configured {
        Mode::Blend(Blend { ratio, .. }) if ratio.is_partial() => *ratio,
        _ => USUAL_RATIO,
    };
    let usual = ["query/all", "hkvd@1", "hkvd@2", "first-k"];
    let usual = usual
        .iter()
        .filter_map(|policy| policy.parse::<Policy>().ok());
    let usual = usual.filter_map(|policy| Mode::blend(policy, ratio).normalised(n_layers).ok());
    let mut modes = vec![Mode::Reuse, configured.clone()];
    for mode in usual {
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    modes
}

/// One prompt under every mode.
async fn ask(
    bench: &Bench<'_>,
    prompt: &PromptFormat,
    chunks: &[Fact],
    number: usize,
    at_once: usize,
    modes: &[Mode],
) -> Result<Vec<Sample>, VerifyError> {
    let facts = order(number, at_once);
    let ids: Vec<&[u32]> = facts
        .iter()
        .map(|&fact| chunks[fact].ids.as_slice())
        .collect();
    let segments: PromptSegments = prompt.segments(None, &ids, &question(number))?;
    let stored: Vec<Stored> = facts
        .iter()
        .enumerate()
        .map(|(place, &fact)| match place {
            0 => chunks[fact].kv.clone().in_place(),
            _ => chunks[fact].kv.clone(),
        })
        .collect();
    let answer = bench.answer(&segments, ANSWER_TOKENS).await?;
    let full = bench
        .trace_along(&segments, &stored, Mode::Full, &answer)
        .await?;
    let mut samples = Vec::with_capacity(modes.len());
    for mode in modes {
        let trace = bench
            .trace_along(&segments, &stored, mode.clone(), &answer)
            .await?;
        samples.push(Sample {
            fidelity: fidelity::compare(&full.logits, &trace.logits),
            computed_share: trace.report.computed_share(bench.n_layers()),
        });
    }
    Ok(samples)
}

fn question(number: usize) -> String {
    let (name, ..) = PEOPLE[number % PEOPLE.len()];
    match number < PEOPLE.len() {
        true => format!("Where does {name} live?"),
        false => format!("What does {name} work as?"),
    }
}

/// The configured mode and the others beside reuse, and reuse. `samples`: one list per mode, that of reuse first;
/// `rounding`: nats that it explains.
fn sum_up(modes: &[Mode], samples: &[Vec<Sample>], rounding: f64) -> (Vec<Compared>, Fidelity) {
    let reuse = &samples[0];
    let of_modes = modes.iter().zip(samples).skip(1);
    let compared = of_modes.map(|(mode, samples)| Compared::new(mode, samples, reuse, rounding));
    (compared.collect(), overall(reuse))
}

/// The facts of one prompt, the asked one among them. It never comes first: there its KV is exact under every mode.
/// Over all prompts it stands at every other place.
fn order(number: usize, at_once: usize) -> Vec<usize> {
    let place = 1 + number % (at_once - 1);
    (0..at_once)
        .map(|i| (number + PEOPLE.len() + i - place) % PEOPLE.len())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_holds_its_fact_after_another_and_none_twice() {
        for at_once in 2..=FACTS_AT_ONCE {
            let mut places = Vec::new();
            for number in 0..PROMPTS {
                let mut facts = order(number, at_once);
                let asked = number % PEOPLE.len();
                places.extend(facts.iter().position(|&fact| fact == asked));
                facts.sort_unstable();
                facts.dedup();
                assert_eq!(facts.len(), at_once);
            }
            assert_eq!(places.len(), PROMPTS);
            places.sort_unstable();
            places.dedup();
            assert_eq!(places, (1..at_once).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_prompt_asks_something_else() {
        let mut questions: Vec<String> = (0..PROMPTS).map(question).collect();
        questions.sort();
        questions.dedup();
        assert_eq!(questions.len(), PROMPTS);
    }

    #[test]
    fn the_configured_mode_is_measured_beside_reuse_and_what_could_replace_it() {
        let names = |mode: &str, n_layers| -> Vec<String> {
            let modes = modes(&mode.parse().unwrap(), n_layers);
            modes.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            names("hkvd@1:0.15", 30),
            [
                "reuse",
                "hkvd@1:0.15",
                "query/all:0.15",
                "hkvd@2:0.15",
                "first-k:0.15"
            ]
        );
        assert_eq!(
            names("anchors:0.1", 2),
            [
                "reuse",
                "anchors:0.1",
                "query/all:0.1",
                "hkvd@1:0.1",
                "first-k:0.1"
            ]
        );
        assert_eq!(
            names("reuse", 30)[..3],
            ["reuse", "reuse", "query/all:0.15"]
        );
    }
}
