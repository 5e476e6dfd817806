//! `ragweave-eval tokens`: the token ids of texts, to compare with any other tokenizer.

use std::path::PathBuf;

use anyhow::Context as _;
use ragweave_engine::TextCodec;
use serde::Serialize;

use crate::experiment::print_text;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model: a directory in Hugging Face layout, or a GGUF file; weights are not needed
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// A JSON list of texts
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
}

#[derive(Debug, Serialize)]
struct Output {
    /// Per text, as documents and questions are encoded: without special tokens.
    ids: Vec<Vec<u32>>,
    /// What a text that is not a chat begins with.
    opening: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let path = args.texts.display();
    let texts = fs_err::read(&args.texts)?;
    let texts: Vec<String> =
        serde_json::from_slice(&texts).with_context(|| format!("{path}: not a list of texts"))?;
    let codec = TextCodec::from_dir(&args.model)?;
    let ids = texts.iter().map(|text| codec.encode_plain(text));
    let output = Output {
        ids: ids.collect::<Result<_, _>>()?,
        opening: codec.opening().to_owned(),
    };
    print_text(serde_json::to_string(&output)?)
}
