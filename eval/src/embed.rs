//! `ragweave-eval embed`: the vectors that the configured embedder makes of texts, to compare with any other
//! implementation. `scripts/real/embed_parity.py` does that with sentence-transformers.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::ArgGroup;
use ragweave_retriever::{Embedder, Embedding};
use ragweave_server::config::{self, CommonArgs};
use ragweave_server::embedder;
use ragweave_server::error::ServerError;
use serde_json::{Map, Value, json};

use crate::experiment::print_text;

/// Numbers of a vector that are shown without `--json`.
const SHOWN: usize = 8;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("input").required(true).args(["text", "lines"]))]
pub(crate) struct Args {
    /// A text (repeatable)
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// One text per line
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// As questions, one at a time; without it as chunks of documents, in batches
    #[arg(long)]
    query: bool,
    /// Also the time to open the embedder and to embed
    #[arg(long)]
    times: bool,
    /// {"embedding": [..]} for one text, {"embeddings": [[..], ..]} for several; sparse vectors are objects, weight by
    /// term
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let texts = args.texts()?;
    let config = config::embedder(&args.common)?;
    let start = Instant::now();
    let embedder = embedder::open(&config).map_err(ServerError::from)?;
    let load_s = start.elapsed().as_secs_f64();
    let (embeddings, embed_ms) = embed(&*embedder, &texts, args.query)?;
    let times = args.times.then(|| {
        json!({"load_s": load_s, "embed_s": embed_ms.iter().sum::<f64>() / 1e3, "embed_ms": embed_ms})
    });
    if args.json {
        return print_text(as_json(&embeddings, times));
    }
    print_text(embedder.description())?;
    embeddings
        .iter()
        .try_for_each(|one| print_text(first_numbers(one)))?;
    times.map_or(Ok(()), print_text)
}

impl Args {
    fn texts(&self) -> anyhow::Result<Vec<String>> {
        let Some(path) = &self.lines else {
            return Ok(self.text.clone());
        };
        let text = fs_err::read_to_string(path)?;
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        ensure!(!lines.is_empty(), "{} has no line", path.display());
        Ok(lines)
    }
}

/// The embeddings, and the milliseconds of each call.
fn embed(
    embedder: &dyn Embedder,
    texts: &[String],
    is_query: bool,
) -> anyhow::Result<(Vec<Embedding>, Vec<f64>)> {
    let timed = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let (mut embeddings, mut times) = (Vec::new(), Vec::new());
    if is_query {
        for (number, text) in texts.iter().enumerate() {
            let start = Instant::now();
            let embedding = embedder.embed_query(text);
            times.push(timed(start));
            embeddings.push(embedding.with_context(|| format!("text {number}"))?);
        }
        return Ok((embeddings, times));
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let start = Instant::now();
    let made = embedder.embed_documents(&texts)?;
    times.push(timed(start));
    for (number, embedding) in made.into_iter().enumerate() {
        match embedding {
            Some(embedding) => embeddings.push(embedding),
            None => bail!("text {number} is blank: there is nothing to embed"),
        }
    }
    Ok((embeddings, times))
}

fn as_json(embeddings: &[Embedding], times: Option<Value>) -> Value {
    let (key, value) = match embeddings {
        [one] => ("embedding", vector_json(one)),
        several => ("embeddings", several.iter().map(vector_json).collect()),
    };
    let mut object = Map::new();
    object.insert(key.to_owned(), value);
    object.extend(times.map(|times| ("times".to_owned(), times)));
    object.into()
}

fn vector_json(embedding: &Embedding) -> Value {
    match embedding {
        Embedding::Dense(values) => json!(values),
        Embedding::Sparse(terms) => {
            let weights = terms
                .iter()
                .map(|(term, weight)| (term.to_string(), json!(weight)));
            Value::Object(weights.collect())
        }
    }
}

fn first_numbers(embedding: &Embedding) -> String {
    match embedding {
        Embedding::Dense(values) => {
            let shown: Vec<_> = values
                .iter()
                .take(SHOWN)
                .map(|v| format!("{v:.4}"))
                .collect();
            format!("{} numbers: {} ..", values.len(), shown.join(" "))
        }
        Embedding::Sparse(terms) => format!("{} terms", terms.len()),
    }
}
