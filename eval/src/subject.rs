//! The model under test: engine, prompt format and splitter, without a data directory.

use ragweave_engine::{EngineHandle, ModelInfo};
use ragweave_retriever::{DocumentFormat, Splitter};
use ragweave_server::components::{engine_options, open_prompt, open_splitter};
use ragweave_server::config::Config;
use ragweave_server::error::ServerError;
use ragweave_server::prompt::{PromptError, PromptFormat};

/// A model, set up as for serving.
pub(crate) struct Subject {
    pub(crate) engine: EngineHandle,
    pub(crate) prompt: PromptFormat,
    splitter: Splitter,
}

impl Subject {
    /// Loads the configured model.
    ///
    /// # Errors
    /// As for serving: a model that cannot be loaded, has no tokenizer, or chunks that do not fit.
    pub(crate) fn open(config: &Config) -> Result<Self, ServerError> {
        let engine = config.device.spawn_engine(engine_options(config))?;
        let prompt = open_prompt(config, engine.model())?;
        let splitter = open_splitter(config, engine.model(), &prompt)?;
        Ok(Self {
            engine,
            prompt,
            splitter,
        })
    }

    pub(crate) fn model(&self) -> &ModelInfo {
        self.engine.model()
    }

    pub(crate) fn n_layers(&self) -> usize {
        self.model().config.num_hidden_layers
    }

    /// Tokens of a text, without special ones.
    pub(crate) fn count_tokens(&self, text: &str) -> usize {
        let tokenizer = self.model().tokenizer.as_ref();
        tokenizer.map_or(0, |tokenizer| tokenizer.token_count_plain(text))
    }

    /// Token ids of a text, without special ones; none where there is no tokenizer.
    pub(crate) fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        match &self.model().tokenizer {
            Some(tokenizer) => Ok(tokenizer.encode_plain(text)?),
            None => Ok(Vec::new()),
        }
    }

    /// The text of some tokens, special ones included.
    pub(crate) fn decode(&self, ids: &[u32]) -> anyhow::Result<String> {
        match &self.model().tokenizer {
            Some(tokenizer) => Ok(tokenizer.decode(ids, false)?),
            None => Ok(String::new()),
        }
    }

    /// The chunks of a document, in the prompt format.
    pub(crate) fn chunks<'t>(&self, document: &'t str) -> anyhow::Result<Vec<(&'t str, Vec<u32>)>> {
        let spans = self.splitter.split(document, DocumentFormat::Text)?;
        let chunk =
            |text: &'t str| -> Result<_, PromptError> { Ok((text, self.prompt.chunk_ids(text)?)) };
        let texts = spans.iter().map(|span| &document[span.start..span.end]);
        Ok(texts.map(chunk).collect::<Result<_, _>>()?)
    }
}
