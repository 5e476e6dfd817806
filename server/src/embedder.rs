//! Opens the embedder that is configured: the built-in one, a sentence-transformers directory, or one over HTTP.

use std::path::Path;
use std::sync::Arc;

use ragweave_retriever::{
    Embedder, Embedding, LexicalEmbedder, OpenEmbedderError, RemoteEmbedder, RemoteOptions,
    RemoteUrl, RetrieverError, TransformerOptions,
};

use crate::config::{EmbedderConfig, EmbedderModel};

/// The embedder of a configuration. Blocks until its model is loaded. A remote one need not answer yet: the stored
/// vectors can be searched once it does.
///
/// # Errors
/// [`OpenEmbedderError`], which names the file, URL or device.
pub fn open(config: &EmbedderConfig) -> Result<Arc<dyn Embedder>, OpenEmbedderError> {
    let embedder: Arc<dyn Embedder> = match &config.model {
        EmbedderModel::Lexical => Arc::new(LexicalEmbedder::new()),
        EmbedderModel::Directory(dir) => {
            let options = transformer_options(config, dir);
            Arc::new(config.device.spawn_embedder(&options)?)
        }
        EmbedderModel::Remote(url) => {
            let remote = RemoteEmbedder::new(remote_options(config, url));
            if let Err(error) = remote.probe() {
                tracing::warn!(%error, "questions and documents fail until the embedder answers");
            }
            Arc::new(remote)
        }
    };
    tracing::info!(embedder = embedder.description(), device = %config.device, "embedder opened");
    Ok(embedder)
}

/// Opens the embedder and embeds one text, to find out whether it works. Returns what it is.
///
/// # Errors
/// The text says what is wrong and what to do.
pub fn check(config: &EmbedderConfig) -> Result<Arc<dyn Embedder>, String> {
    if let EmbedderModel::Remote(url) = &config.model {
        let remote = RemoteEmbedder::new(remote_options(config, url));
        let probed = remote.probe();
        return match probed {
            Ok(_) => Ok(Arc::new(remote)),
            Err(error) => Err(error.to_string()),
        };
    }
    let embedder = open(config).map_err(|error| error.to_string())?;
    let embedded = embedder.embed_query("ragweave");
    embedded.map_err(|error: RetrieverError| error.to_string())?;
    Ok(embedder)
}

/// A stored vector, if this embedder made it. The `width` of dense vectors, if it is not known yet, is that of the first.
///
/// # Errors
/// As [`Embedding::from_bytes`], and `WrongDimension`.
pub(crate) fn stored_vector(
    bytes: &[u8],
    embedder_id: &str,
    width: &mut Option<usize>,
) -> Result<Embedding, RetrieverError> {
    let embedding = Embedding::from_bytes(bytes, embedder_id)?;
    if let Embedding::Dense(values) = &embedding {
        let (found, expected) = (values.len(), *width.get_or_insert(values.len()));
        if found != expected {
            return Err(RetrieverError::WrongDimension { expected, found });
        }
    }
    Ok(embedding)
}

fn transformer_options(config: &EmbedderConfig, dir: &Path) -> TransformerOptions {
    TransformerOptions {
        dir: dir.to_owned(),
        query_prompt: config.query_prompt.clone(),
        document_prompt: config.document_prompt.clone(),
    }
}

fn remote_options(config: &EmbedderConfig, url: &RemoteUrl) -> RemoteOptions {
    RemoteOptions {
        url: url.clone(),
        api_key: config.api_key.as_ref().map(|key| key.secret().to_owned()),
        timeout: config.timeout,
        query_prompt: config.query_prompt.clone().unwrap_or_default(),
        document_prompt: config.document_prompt.clone().unwrap_or_default(),
    }
}
