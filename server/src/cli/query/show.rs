//! Replies as text for people and as JSON for programs.

use ragweave_proto::v1;
use serde_json::{Value, json};

use crate::client::Reply;

/// Number of characters shown of a source's text.
const EXCERPT_CHARS: usize = 100;

/// Sources, tokens and stage times, below the answer.
pub(super) fn print_reply(reply: &Reply) {
    say!("\nsources:");
    print_sources(&reply.started.sources);
    for source in &reply.started.dropped {
        say!("  left out, no room in the context: {}", source.chunk_id);
    }
    let finished = &reply.finished;
    let cache = reply.started.cache.unwrap_or_default();
    let usage = finished.usage.unwrap_or_default();
    say!(
        "\nmode {}; finished: {}",
        choice(&reply.started),
        reason(finished)
    );
    if let Some(reason) = reply
        .started
        .fusion
        .as_ref()
        .and_then(|fusion| fusion.fallback_reason.as_ref())
    {
        say!("full prefill instead of what was asked for: {reason}");
    }
    if let Some(auto) = auto(&reply.started) {
        print_auto(auto, ttft_ms(reply));
    }
    if let Some(left) = reply
        .started
        .fusion
        .as_ref()
        .and_then(|fusion| fusion.deviation_left)
    {
        say!(
            "deviation left: {:.1} %, in tokens that were not recomputed",
            left * 100.0
        );
    }
    say!(
        "chunks: {} from stored KV, {} computed; tokens: {} prompt ({} cached), {} loaded, {} recomputed, \
         {} prefilled, {} answer",
        cache.chunks_hit,
        cache.chunks_missed,
        usage.prompt_tokens,
        usage.cached_tokens,
        cache.tokens_loaded,
        cache.tokens_recomputed,
        cache.tokens_prefilled,
        usage.completion_tokens,
    );
    say!("\nstage          ms");
    for (name, ms) in stages(&finished.timings.unwrap_or_default()) {
        say!("{name:<12} {ms:>8.2}");
    }
}

/// The plans that auto chose from, and how good its forecast was.
fn print_auto(auto: &v1::AutoChoice, actual_ms: f64) {
    let predicted_ms = ms(auto.predicted_ttft);
    say!("auto: {}", auto.reason);
    say!("predicted ttft {predicted_ms:.2} ms, actual {actual_ms:.2} ms; predicted of each plan:");
    for candidate in &auto.candidates {
        say!(
            "  {:<32} {:>8.2} ms",
            candidate.name,
            ms(candidate.predicted)
        );
    }
}

fn auto(started: &v1::Started) -> Option<&v1::AutoChoice> {
    started
        .fusion
        .as_ref()
        .and_then(|fusion| fusion.auto.as_ref())
}

fn auto_json(auto: &v1::AutoChoice) -> Value {
    let candidate = |one: &v1::auto_choice::Candidate| json!({ "name": one.name, "predicted_ms": ms(one.predicted) });
    json!({
        "reason": auto.reason,
        "predicted_ttft_ms": ms(auto.predicted_ttft),
        "candidates": auto.candidates.iter().map(candidate).collect::<Vec<_>>(),
    })
}

/// Each source on one line, with the beginning of its text.
pub(crate) fn print_sources(sources: &[v1::Source]) {
    for (position, source) in sources.iter().enumerate() {
        let score = source
            .score
            .map_or_else(String::new, |score| format!(" score {score:.3}"));
        say!(
            "  [{}] {} bytes {}..{}{score}: {}",
            position + 1,
            source.chunk_id,
            source.start_byte,
            source.end_byte,
            excerpt(&source.text),
        );
    }
}

/// The whole reply as one object.
pub(super) fn reply_json(reply: &Reply) -> Value {
    let cache = reply.started.cache.unwrap_or_default();
    let usage = reply.finished.usage.unwrap_or_default();
    let timings = stages(&reply.finished.timings.unwrap_or_default());
    let timings: serde_json::Map<String, Value> = timings
        .into_iter()
        .map(|(name, ms)| (name.replace(' ', "_"), json!(ms)))
        .collect();
    json!({
        "request_id": reply.started.request_id,
        "answer": reply.text,
        "finish_reason": reason(&reply.finished),
        "fusion": fusion_json(&reply.started),
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
        },
        "cache": {
            "chunks_hit": cache.chunks_hit,
            "chunks_missed": cache.chunks_missed,
            "prefix_tokens_cached": cache.prefix_tokens_cached,
            "tokens_loaded": cache.tokens_loaded,
            "tokens_recomputed": cache.tokens_recomputed,
            "tokens_prefilled": cache.tokens_prefilled,
            "bytes_loaded": cache.bytes_loaded,
            "bytes_from_memory": cache.bytes_from_memory,
            "bytes_from_disk": cache.bytes_from_disk,
        },
        "timings_ms": timings,
        "client_ttft_ms": reply.client_ttft.as_secs_f64() * 1e3,
        "sources": reply.started.sources.iter().map(source_json).collect::<Vec<_>>(),
        "dropped": reply.started.dropped.iter().map(source_json).collect::<Vec<_>>(),
    })
}

/// One source as an object.
pub(crate) fn source_json(source: &v1::Source) -> Value {
    json!({
        "document_id": source.document_id,
        "chunk_id": source.chunk_id,
        "start_byte": source.start_byte,
        "end_byte": source.end_byte,
        "score": source.score,
        "text": source.text,
        "metadata": source.metadata,
        "tokens": source.tokens,
    })
}

/// Mode, selection and ratio as planned.
pub(super) fn fusion_json(started: &v1::Started) -> Value {
    let fusion = started.fusion.clone().unwrap_or_default();
    json!({
        "mode": mode_name(fusion.mode()),
        "selection": fusion.selection,
        "ratio": fusion.ratio,
        "deviation_left": fusion.deviation_left,
        "fallback_reason": fusion.fallback_reason,
        "auto": auto(started).map(auto_json),
    })
}

/// `full`, `reuse`, or `blend hkvd@2:0.15`.
pub(super) fn choice(started: &v1::Started) -> String {
    let fusion = started.fusion.clone().unwrap_or_default();
    let mut text = mode_name(fusion.mode()).to_owned();
    if let Some(selection) = fusion.selection {
        text += &format!(" {selection}");
    }
    if let Some(ratio) = fusion.ratio {
        text += &format!(":{ratio}");
    }
    text
}

/// Stage names and milliseconds, in the order in which they happen.
pub(super) fn stages(times: &v1::StageTimes) -> [(&'static str, f64); 11] {
    [
        ("queue", ms(times.queue)),
        ("embed", ms(times.embed)),
        ("search", ms(times.search)),
        ("load", ms(times.load)),
        ("load wait", ms(times.load_wait)),
        ("probe", ms(times.probe)),
        ("recompute", ms(times.recompute)),
        ("first decode", ms(times.first_decode)),
        ("ttft", ms(times.ttft)),
        ("decode", ms(times.decode)),
        ("total", ms(times.total)),
    ]
}

/// The server's time to first token in milliseconds.
pub(super) fn ttft_ms(reply: &Reply) -> f64 {
    ms(reply.finished.timings.unwrap_or_default().ttft)
}

fn ms(duration: Option<prost_types::Duration>) -> f64 {
    duration.map_or(0.0, |d| d.seconds as f64 * 1e3 + f64::from(d.nanos) / 1e6)
}

fn reason(finished: &v1::Finished) -> &'static str {
    match finished.reason() {
        v1::FinishReason::Unspecified => "unknown",
        v1::FinishReason::Eos => "eos",
        v1::FinishReason::StopString => "stop_string",
        v1::FinishReason::Length => "length",
        v1::FinishReason::Deadline => "deadline",
        v1::FinishReason::Cancelled => "cancelled",
    }
}

fn mode_name(mode: v1::FusionMode) -> &'static str {
    match mode {
        v1::FusionMode::Unspecified => "unknown",
        v1::FusionMode::Full => "full",
        v1::FusionMode::Reuse => "reuse",
        v1::FusionMode::Blend => "blend",
        v1::FusionMode::Auto => "auto",
    }
}

fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blend_is_shown_in_its_notation() {
        let mut fusion = v1::FusionChoice {
            selection: Some("first-k+query".to_owned()),
            ratio: Some(0.05),
            deviation_left: Some(0.25),
            ..Default::default()
        };
        fusion.set_mode(v1::FusionMode::Blend);
        let started = v1::Started {
            fusion: Some(fusion),
            ..Default::default()
        };
        assert_eq!(choice(&started), "blend first-k+query:0.05");
        let json = fusion_json(&started);
        assert_eq!(
            (&json["selection"], &json["ratio"], &json["deviation_left"]),
            (&json!("first-k+query"), &json!(0.05), &json!(0.25))
        );
    }

    #[test]
    fn a_mode_without_a_selection_or_a_ratio_is_shown_without() {
        let shown = |mode: v1::FusionMode, selection: Option<&str>| {
            let mut fusion = v1::FusionChoice {
                selection: selection.map(str::to_owned),
                ..Default::default()
            };
            fusion.set_mode(mode);
            choice(&v1::Started {
                fusion: Some(fusion),
                ..Default::default()
            })
        };
        assert_eq!(shown(v1::FusionMode::Full, None), "full");
        assert_eq!(shown(v1::FusionMode::Blend, Some("all")), "blend all");
    }
}
