//! Converts requests into queries. Every error names the field by its path in the API. No allocation size here comes
//! from a number in the request.

use std::time::Instant;

use ragweave_engine::{ModelInfo, SamplingParams};
use ragweave_proto::v1;
use ragweave_proto::v1::generate_request::Context as WireContext;
use ragweave_retriever::{DocumentFormat, Filter, MAX_DOCUMENT_ID_BYTES};

use super::check::{Checked, check_count, check_length, check_text, in_range, known, unspecified};
use super::fusion;
use crate::config::{Config, Limits, Order};
use crate::pipeline::{AnswerError, Context, Query, Search};

const MAX_REQUEST_ID_BYTES: usize = 128;
const MAX_FILTER_PAIRS: usize = 64;
const MAX_FILTER_DOCUMENTS: usize = 1000;
const MAX_PAGE_SIZE: u32 = 1000;
const DEFAULT_PAGE_SIZE: u32 = 100;
/// Most bytes that everything but the sources takes in a Started event.
const MAX_STARTED_BYTES: usize = 16 << 10;

/// The query of a Generate.
///
/// # Errors
/// `InvalidField`, or the engine's refusal of the sampling parameters.
pub(crate) fn answer_query(
    request: v1::GenerateRequest,
    config: &Config,
    model: &ModelInfo,
    deadline: Instant,
) -> Checked<Query> {
    let limits = &config.limits;
    check_text("query", &request.query, limits)?;
    if let Some(system) = &request.system {
        check_length("system", system, limits.max_question_bytes)?;
    }
    let mut query = Query::new(request.query, config, model.max_model_len);
    query.request_id = request.request_id.unwrap_or_default();
    check_length("request_id", &query.request_id, MAX_REQUEST_ID_BYTES)?;
    query.system = request.system;
    query.deadline = Some(deadline);
    query.context = context(request.context, config)?;
    let n_layers = model.config.num_hidden_layers;
    let fusion = request.fusion.unwrap_or_default();
    query.mode = fusion::mode(fusion, config.fusion.clone(), n_layers)?;
    query.max_source_bytes = Some(source_bytes(limits.max_message_bytes));
    sample(request.sampling.unwrap_or_default(), &mut query.sampling);
    stop(
        request.stopping.unwrap_or_default(),
        limits,
        &mut query.sampling,
    )?;
    query.sampling.logprobs = request.output.and_then(|output| output.logprobs);
    query.sampling.validate()?;
    Ok(query)
}

/// Bytes of a message that are available for the sources of an answer.
fn source_bytes(max_message_bytes: usize) -> usize {
    max_message_bytes - MAX_STARTED_BYTES.min(max_message_bytes / 4)
}

/// The query of a Retrieve.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn search_query(
    request: v1::RetrieveRequest,
    config: &Config,
    max_model_len: usize,
) -> Checked<Query> {
    check_text("query", &request.query, &config.limits)?;
    let mut query = Query::new(request.query, config, max_model_len);
    query.context = Context::Search(search(request.retrieval.unwrap_or_default(), config)?);
    Ok(query)
}

/// Format of a document; plain text if absent.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn document_format(format: Option<i32>) -> Checked<DocumentFormat> {
    let field = "header.format";
    let Some(format) = format else {
        return Ok(DocumentFormat::Text);
    };
    match known(field, format)? {
        v1::DocumentFormat::Unspecified => Err(unspecified(field)),
        v1::DocumentFormat::Text => Ok(DocumentFormat::Text),
        v1::DocumentFormat::Markdown => Ok(DocumentFormat::Markdown),
    }
}

/// Checks the id of a document to look up. An id that this version would refuse at ingest is allowed: an earlier
/// version may have accepted it.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn document_id(id: &str) -> Checked<()> {
    if id.trim().is_empty() {
        return Err(AnswerError::invalid("document_id", "must not be blank"));
    }
    check_length("document_id", id, MAX_DOCUMENT_ID_BYTES)
}

/// The document that a page starts after: the token is its id. An empty token starts at the first document.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn page_start(token: &str) -> Checked<Option<&str>> {
    check_length("page_token", token, MAX_DOCUMENT_ID_BYTES)?;
    Ok((!token.is_empty()).then_some(token))
}

/// Number of documents on one page.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn page_size(asked: Option<u32>) -> Checked<usize> {
    let size = asked.unwrap_or(DEFAULT_PAGE_SIZE);
    in_range("page_size", size, 1, MAX_PAGE_SIZE as usize)
}

fn context(context: Option<WireContext>, config: &Config) -> Checked<Context> {
    match context {
        None => Ok(Context::Search(Search::new(config))),
        Some(WireContext::Retrieval(options)) => search(options, config).map(Context::Search),
        Some(WireContext::Chunks(chunks)) => {
            let limit = config.limits.max_top_k;
            check_count("chunks.ids", chunks.ids.len(), limit)?;
            Ok(Context::Chunks(chunks.ids))
        }
    }
}

fn search(options: v1::RetrievalOptions, config: &Config) -> Checked<Search> {
    let mut search = Search::new(config);
    if let Some(top_k) = options.top_k {
        search.top_k = in_range("retrieval.top_k", top_k, 1, config.limits.max_top_k)?;
    }
    if let Some(order) = options.order {
        search.order = match known("retrieval.order", order)? {
            v1::ChunkOrder::Unspecified => return Err(unspecified("retrieval.order")),
            v1::ChunkOrder::Score => Order::Score,
            v1::ChunkOrder::Document => Order::Document,
        };
    }
    search.filter = filter(options.filter.unwrap_or_default())?;
    Ok(search)
}

fn filter(filter: v1::Filter) -> Checked<Filter> {
    check_count(
        "retrieval.filter.metadata",
        filter.metadata.len(),
        MAX_FILTER_PAIRS,
    )?;
    check_count(
        "retrieval.filter.document_ids",
        filter.document_ids.len(),
        MAX_FILTER_DOCUMENTS,
    )?;
    let document_ids = filter.document_ids;
    Ok(Filter {
        metadata: filter.metadata.into_iter().collect(),
        document_ids: (!document_ids.is_empty()).then(|| document_ids.into_iter().collect()),
    })
}

/// Overrides greedy sampling; the engine validates the result.
fn sample(options: v1::SamplingOptions, params: &mut SamplingParams) {
    let set = |value: Option<f32>, into: &mut f32| *into = value.unwrap_or(*into);
    set(options.temperature, &mut params.temperature);
    set(options.top_p, &mut params.top_p);
    set(options.min_p, &mut params.min_p);
    set(options.repetition_penalty, &mut params.repetition_penalty);
    set(options.presence_penalty, &mut params.presence_penalty);
    set(options.frequency_penalty, &mut params.frequency_penalty);
    params.top_k = options.top_k.unwrap_or(params.top_k);
    params.seed = options.seed;
}

fn stop(options: v1::StoppingOptions, limits: &Limits, params: &mut SamplingParams) -> Checked<()> {
    if let Some(max_tokens) = options.max_tokens {
        params.max_tokens = in_range(
            "stopping.max_tokens",
            max_tokens,
            1,
            limits.max_output_tokens,
        )?;
    }
    params.stop = options.stop;
    params.stop_token_ids = options.stop_token_ids;
    params.ignore_eos = options.ignore_eos.unwrap_or(params.ignore_eos);
    Ok(())
}
