//! An embedder reached over HTTP, in the shape of OpenAI's `/v1/embeddings`, which Text Embeddings
//! Inference, Ollama, llama.cpp and vLLM serve too.
//!
//! What a server computes cannot be seen from outside, so the embedder's id is made of the URL, the
//! model's name and the prompts. The width of the vectors may not change while the program runs.

mod answer;
mod transport;
mod url;

use std::sync::OnceLock;
use std::time::Duration;

use crate::embed::batches::batches;
use crate::embed::{Embedder, Embedding, is_blank};
use crate::error::RetrieverError;
use transport::{Patience, Transport};

pub use url::RemoteUrl;

/// Most texts in a request; the default limit of Text Embeddings Inference.
const MAX_BATCH_TEXTS: usize = 32;
/// Most bytes of text in a request, unless one text alone has more.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// Times a request is sent before it counts as failed.
const MAX_ATTEMPTS: u32 = 4;
/// Longest wait for the first answer, from which the width is learned.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TEXT: &str = "width";

/// Where the embedder is, and how to ask it.
#[derive(Clone)]
pub struct RemoteOptions {
    /// Address and model.
    pub url: RemoteUrl,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Longest time for one request, its repetitions included.
    pub timeout: Duration,
    /// Put before every question.
    pub query_prompt: String,
    /// Put before every chunk of a document.
    pub document_prompt: String,
}

/// An embedder that is asked over HTTP.
pub struct RemoteEmbedder {
    id: String,
    options: RemoteOptions,
    transport: Transport,
    width: OnceLock<usize>,
}

impl RemoteEmbedder {
    /// The embedder at a URL. Nothing is sent yet, so it need not be there.
    pub fn new(options: RemoteOptions) -> Self {
        let RemoteOptions {
            url,
            query_prompt,
            document_prompt,
            ..
        } = &options;
        Self {
            id: format!("remote 1 {url} {query_prompt:?} {document_prompt:?}"),
            transport: Transport::new(url, options.api_key.as_deref()),
            options,
            width: OnceLock::new(),
        }
    }

    /// Asks the embedder once, to learn how wide its vectors are.
    ///
    /// # Errors
    /// `EmbedderUnavailable`, `BadEmbedderAnswer`.
    pub fn probe(&self) -> Result<usize, RetrieverError> {
        let patience = Patience {
            attempts: 1,
            timeout: self.options.timeout.min(PROBE_TIMEOUT),
        };
        self.ask(&[PROBE_TEXT.to_owned()], patience)?;
        self.width
            .get()
            .copied()
            .ok_or_else(|| self.bad("has no vector"))
    }

    fn embed(
        &self,
        prompt: &str,
        texts: &[&str],
    ) -> Result<Vec<Option<Embedding>>, RetrieverError> {
        let patience = Patience {
            attempts: MAX_ATTEMPTS,
            timeout: self.options.timeout,
        };
        let mut embeddings = vec![None; texts.len()];
        let visible = texts.iter().enumerate().filter(|(_, text)| !is_blank(text));
        let visible: Vec<_> = visible.map(|(at, text)| (at, *text)).collect();
        for batch in requests(&visible) {
            let inputs = batch.iter().map(|(_, text)| format!("{prompt}{text}"));
            let vectors = self.ask(&inputs.collect::<Vec<_>>(), patience)?;
            for ((at, _), vector) in batch.iter().zip(vectors) {
                embeddings[*at] = Some(Embedding::Dense(vector));
            }
        }
        Ok(embeddings)
    }

    /// The vectors of some texts, checked.
    fn ask(&self, inputs: &[String], patience: Patience) -> Result<Vec<Vec<f32>>, RetrieverError> {
        let body = self.transport.post(inputs, patience)?;
        let vectors = answer::vectors(&body, inputs.len()).map_err(|what| self.bad(&what))?;
        for vector in &vectors {
            let width = *self.width.get_or_init(|| vector.len());
            if vector.len() != width {
                let found = vector.len();
                return Err(self.bad(&format!(
                    "has a vector of {found} numbers, and earlier ones have {width}: the model behind \
                     the URL has changed; start again to embed the documents anew"
                )));
            }
        }
        Ok(vectors)
    }

    fn bad(&self, what: &str) -> RetrieverError {
        let url = &self.options.url;
        RetrieverError::BadEmbedderAnswer {
            message: format!("the answer of the embedder {url} {what}"),
        }
    }
}

impl Embedder for RemoteEmbedder {
    fn id(&self) -> &str {
        &self.id
    }

    fn description(&self) -> String {
        let url = &self.options.url;
        match self.width.get() {
            Some(width) => format!("{url}: vectors of {width} numbers"),
            None => format!("{url}: not asked yet"),
        }
    }

    fn width(&self) -> Option<usize> {
        self.width.get().copied()
    }

    fn expect_width(&self, width: usize) {
        self.width.get_or_init(|| width);
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Option<Embedding>>, RetrieverError> {
        self.embed(&self.options.document_prompt, texts)
    }

    fn embed_query(&self, text: &str) -> Result<Embedding, RetrieverError> {
        let mut embeddings = self.embed(&self.options.query_prompt, &[text])?;
        let embedding = embeddings.pop().flatten();
        embedding.ok_or(RetrieverError::BlankText)
    }
}

/// As many texts at a time as a request may hold.
fn requests<'t>(texts: &'t [(usize, &'t str)]) -> impl Iterator<Item = &'t [(usize, &'t str)]> {
    let weight = |(_, text): &(usize, &str)| text.len();
    batches(texts, MAX_BATCH_TEXTS, MAX_BATCH_BYTES, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_holds_a_bounded_number_of_texts_and_bytes() {
        let sizes = |texts: &[&str]| -> Vec<usize> {
            let texts: Vec<_> = texts.iter().map(|text| (0, *text)).collect();
            requests(&texts).map(<[_]>::len).collect()
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&["a"; 70]), [32, 32, 6]);
        let half = "a".repeat(MAX_BATCH_BYTES / 2);
        let huge = "a".repeat(MAX_BATCH_BYTES + 1);
        assert_eq!(sizes(&[&half, &half, &half, &huge, "a"]), [2, 1, 1, 1]);
    }
}
