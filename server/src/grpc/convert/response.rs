//! Converts the pipeline's and the store's types into wire messages.

use std::time::Duration;

use ragweave_engine::{FinishReason, FuseReport, Mode, Policy, TokenLogprob};
use ragweave_proto::v1;
use ragweave_proto::v1::generate_response::Event;
use ragweave_store::{ChunkRecord, Document, DocumentSummary};

use crate::pipeline::{AnswerEvent, Delta, Finished, Foreseen, Passage, StageTimes, Started};

/// One event of an answer.
pub(crate) fn event(event: AnswerEvent) -> v1::GenerateResponse {
    let event = match event {
        AnswerEvent::Started(event) => Event::Started(started(*event)),
        AnswerEvent::Delta(event) => Event::Delta(delta(event)),
        AnswerEvent::Finished(event) => Event::Finished(finished(&event)),
    };
    v1::GenerateResponse { event: Some(event) }
}

/// A passage as the client sees it.
pub(crate) fn source(passage: Passage) -> v1::Source {
    v1::Source {
        document_id: passage.document_id,
        chunk_id: passage.chunk_id,
        start_byte: passage.start_byte,
        end_byte: passage.end_byte,
        score: passage.score,
        text: passage.text,
        metadata: passage.metadata.into_iter().collect(),
        tokens: count(passage.token_ids.len()),
    }
}

/// One row of ListDocuments.
pub(crate) fn document_summary(summary: DocumentSummary) -> v1::DocumentSummary {
    v1::DocumentSummary {
        id: summary.id,
        chunks: summary.n_chunks,
        tokens: summary.n_tokens,
        text_bytes: summary.text_bytes,
        metadata: summary.metadata.into_iter().collect(),
        metadata_omitted: false,
    }
}

/// A whole document; `has_kv` says for each chunk whether its KV is stored.
pub(crate) fn document(
    document: Document,
    has_kv: impl Fn(&ChunkRecord) -> bool,
) -> v1::GetDocumentResponse {
    let chunk = |record: &ChunkRecord| v1::Chunk {
        id: record.id.clone(),
        start_byte: record.start_byte,
        end_byte: record.end_byte,
        tokens: count(record.token_ids.len()),
        has_kv: has_kv(record),
    };
    v1::GetDocumentResponse {
        chunks: document.chunks.iter().map(chunk).collect(),
        id: document.id,
        text: document.text,
        metadata: document.metadata.into_iter().collect(),
    }
}

fn started(started: Started) -> v1::Started {
    v1::Started {
        fusion: Some(fusion_choice(&started)),
        request_id: started.request_id,
        prompt_tokens: count(started.report.prompt_tokens),
        cache: Some(cache_use(&started.report, started.looked_up)),
        sources: started.sources.into_iter().map(source).collect(),
        dropped: started.dropped.into_iter().map(source).collect(),
    }
}

/// A requested full prefill looks nothing up, so it has neither hits nor misses.
fn cache_use(report: &FuseReport, looked_up: bool) -> v1::CacheUse {
    v1::CacheUse {
        chunks_hit: if looked_up {
            count(report.chunks_hit)
        } else {
            0
        },
        chunks_missed: if looked_up {
            count(report.chunks_missed)
        } else {
            0
        },
        prefix_tokens_cached: count(report.prefix_tokens_cached),
        tokens_loaded: count(report.tokens_loaded),
        tokens_recomputed: count(report.tokens_recomputed),
        tokens_prefilled: count(report.tokens_prefilled),
        bytes_loaded: report.bytes_loaded,
        bytes_from_memory: report.bytes_from_memory,
        bytes_from_disk: report.bytes_from_disk,
    }
}

fn fusion_choice(started: &Started) -> v1::FusionChoice {
    let mode = &started.report.mode;
    let mut choice = v1::FusionChoice {
        deviation_left: started.report.deviation_left,
        fallback_reason: started.fallback_reason.clone(),
        auto: started.foreseen.as_ref().map(auto_choice),
        ..Default::default()
    };
    let kind = match mode {
        Mode::Full => v1::FusionMode::Full,
        Mode::Reuse => v1::FusionMode::Reuse,
        Mode::Blend(blend) => {
            choice.selection = Some(blend.selection.to_string());
            choice.ratio = (blend.selection.policy != Policy::All).then_some(blend.ratio.get());
            v1::FusionMode::Blend
        }
    };
    choice.set_mode(kind);
    choice
}

fn auto_choice(foreseen: &Foreseen) -> v1::AutoChoice {
    let candidates = foreseen.candidates.iter();
    let candidates = candidates.map(|(name, predicted)| v1::auto_choice::Candidate {
        name: name.clone(),
        predicted: duration(*predicted),
    });
    v1::AutoChoice {
        reason: foreseen.reason.clone(),
        predicted_ttft: duration(foreseen.ttft),
        candidates: candidates.collect(),
    }
}

fn delta(delta: Delta) -> v1::Delta {
    v1::Delta {
        text: delta.text,
        token_ids: delta.token_ids,
        logprobs: delta.logprobs.into_iter().map(logprob).collect(),
    }
}

fn logprob(logprob: TokenLogprob) -> v1::TokenLogprob {
    let alternatives = logprob.top.into_iter();
    let alternatives = alternatives.map(|top| v1::token_logprob::Alternative {
        token_id: top.token,
        logprob: top.logprob,
    });
    v1::TokenLogprob {
        token_id: logprob.token,
        logprob: logprob.logprob,
        alternatives: alternatives.collect(),
    }
}

fn finished(finished: &Finished) -> v1::Finished {
    let reason = match finished.reason {
        FinishReason::Eos => v1::FinishReason::Eos,
        FinishReason::StopString => v1::FinishReason::StopString,
        FinishReason::Length => v1::FinishReason::Length,
        FinishReason::Deadline => v1::FinishReason::Deadline,
        FinishReason::Cancelled => v1::FinishReason::Cancelled,
    };
    v1::Finished {
        reason: reason.into(),
        usage: Some(v1::Usage {
            prompt_tokens: count(finished.usage.prompt_tokens),
            cached_tokens: count(finished.usage.cached_tokens),
            completion_tokens: count(finished.usage.completion_tokens),
        }),
        timings: Some(stage_times(&finished.times)),
    }
}

fn stage_times(times: &StageTimes) -> v1::StageTimes {
    v1::StageTimes {
        queue: duration(times.queue),
        embed: duration(times.embed),
        search: duration(times.search),
        load: duration(times.load),
        load_wait: duration(times.load_wait),
        probe: duration(times.probe),
        recompute: duration(times.recompute),
        first_decode: duration(times.first_decode),
        decode: duration(times.decode),
        ttft: duration(times.ttft),
        total: duration(times.total),
    }
}

/// `None` only for times over 290 billion years.
fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

/// Counts of one prompt are far below 2^32; a larger one is reported as `u32::MAX`.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
