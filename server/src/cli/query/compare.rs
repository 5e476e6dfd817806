//! `query --compare`: the same question with full prefill, plain reuse, blend and the mode that auto chooses. One run of
//! each warms up, then the measured runs alternate between the modes, so that a slow moment of the machine affects all of
//! them.

use ragweave_proto::v1;
use serde_json::{Value, json};

use super::args::Args;
use super::show;
use crate::client::{Client, ClientError, Reply};

const MODES: [v1::FusionMode; 4] = [
    v1::FusionMode::Full,
    v1::FusionMode::Reuse,
    v1::FusionMode::Blend,
    v1::FusionMode::Auto,
];

/// One mode's runs; the first is the warm-up and is not measured.
struct ModeRuns {
    runs: Vec<Reply>,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let mut client = args.server.connect().await?;
    let mut rows: Vec<ModeRuns> = MODES
        .iter()
        .map(|_| ModeRuns { runs: Vec::new() })
        .collect();
    for _ in 0..=args.repeats {
        for (mode, row) in MODES.into_iter().zip(&mut rows) {
            row.runs.push(ask(args, &mut client, mode).await?);
        }
    }
    if args.json {
        let rows: Vec<Value> = rows.iter().map(|row| row.json(&rows[0])).collect();
        say!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print(args, &rows);
    }
    Ok(())
}

async fn ask(args: &Args, client: &mut Client, mode: v1::FusionMode) -> Result<Reply, ClientError> {
    let mut request = args.ask.request(&args.question);
    request.fusion.get_or_insert_default().set_mode(mode);
    client
        .generate(request, args.server.timeout(), |_| {})
        .await
}

fn print(args: &Args, rows: &[ModeRuns]) {
    let last = rows[0].last();
    say!("sources:");
    show::print_sources(&last.started.sources);
    say!(
        "\n{} prompt tokens; median of {} runs each, after a warm-up",
        last.started.prompt_tokens,
        args.repeats
    );
    say!(
        "{:<32} {:>9} {:>11} {:>7} {:>11} {:>9}  answer",
        "mode",
        "TTFT ms",
        "at client",
        "loaded",
        "recomputed",
        "prefilled"
    );
    for row in rows {
        let reply = row.last();
        let cache = reply.started.cache.unwrap_or_default();
        say!(
            "{:<32} {:>9.2} {:>11.2} {:>7} {:>11} {:>9}  {}",
            show::choice(&reply.started),
            row.median(show::ttft_ms),
            row.median(client_ttft_ms),
            cache.tokens_loaded,
            cache.tokens_recomputed,
            cache.tokens_prefilled,
            reply.text.trim(),
        );
        if cache.chunks_missed > 0 {
            say!(
                "  {} chunks had no stored KV and were computed, so the time is not that of a warm store",
                cache.chunks_missed
            );
        }
    }
}

impl ModeRuns {
    /// The last run, when the store is as warm as it gets.
    fn last(&self) -> &Reply {
        &self.runs[self.runs.len() - 1]
    }

    fn median(&self, time: impl Fn(&Reply) -> f64) -> f64 {
        median(self.runs.iter().skip(1).map(time).collect())
    }

    fn json(&self, full: &Self) -> Value {
        let reply = self.last();
        let cache = reply.started.cache.unwrap_or_default();
        json!({
            "fusion": show::fusion_json(&reply.started),
            "prompt_tokens": reply.started.prompt_tokens,
            "ttft_ms_p50": self.median(show::ttft_ms),
            "client_ttft_ms_p50": self.median(client_ttft_ms),
            "runs": self.runs.len() - 1,
            "chunks_hit": cache.chunks_hit,
            "chunks_missed": cache.chunks_missed,
            "tokens_loaded": cache.tokens_loaded,
            "tokens_recomputed": cache.tokens_recomputed,
            "tokens_prefilled": cache.tokens_prefilled,
            "answer": reply.text,
            "answer_equals_full": reply.text == full.last().text,
        })
    }
}

fn client_ttft_ms(reply: &Reply) -> f64 {
    reply.client_ttft.as_secs_f64() * 1e3
}

/// Middle value, or the mean of the two middle ones.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let n = times.len();
    (times[(n - 1) / 2] + times[n / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert_eq!(median(vec![7.0]), 7.0);
    }
}
