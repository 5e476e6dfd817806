//! Opens what `serve`, `ingest` and evaluation share: engine, store, index, embedder, prompt format, splitter.
//!
//! A store of another identity ([`store_identity`]: model, types, prompt format) is refused, because none of its KV
//! would fit. The embedder is not part of it: vectors from another one are computed again from
//! the text ([`index`]). Nor is the chunk size: it is part of each document's content hash, so another `--chunk-tokens`
//! re-ingests instead of being refused.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, RwLock};

use ragweave_engine::{ChunkKv, EngineError, EngineHandle, EngineOptions, ModelConfig, ModelInfo};
use ragweave_retriever::{Embedder, MIN_CHUNK_TOKENS, Splitter};
use ragweave_store::{
    BlobKey, Identity, PendingBlob, Store, StoreError, StoreOptions, StoredChunk,
};

use crate::config::Config;
use crate::error::ServerError;
use crate::fingerprint::fingerprint;
use crate::prompt::{PromptError, PromptFormat};
use crate::search_index::SearchIndex;
use crate::search_index::keeper::{self, DumpPlace, GraphKeeper};
use crate::sources::Unanswered;
use crate::tier::MemoryTier;
use crate::{embedder, fit, sizing, store_identity, tuned};
use index::Renewed;

mod index;

/// How the caller uses the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Answer requests from an existing store; documents may come and go by RPC.
    Serve,
    /// Add documents; the store is created if there is none.
    Ingest,
    /// Read an existing store.
    ReadOnly,
}

/// Everything a request or a document needs. Cheap to clone.
#[derive(Clone)]
pub struct Components {
    pub config: Arc<Config>,
    pub engine: EngineHandle,
    pub store: Arc<Store>,
    /// In-memory cache of chunk KV in front of the store.
    pub memory: Arc<MemoryTier>,
    /// Stored KV that must not be read for now.
    pub unanswered: Arc<Unanswered>,
    pub index: Arc<RwLock<SearchIndex>>,
    pub embedder: Arc<dyn Embedder>,
    pub prompt: Arc<PromptFormat>,
    pub splitter: Arc<Splitter>,
    /// The store was made by another model or prompt format, so its KV and token ids cannot be used.
    pub is_foreign: bool,
}

impl Components {
    /// Loads the model and opens the data directory. Blocks, for seconds with a large model.
    ///
    /// # Errors
    /// [`ServerError`]. Each variant says what to do; [`ServerError::exit_code`] is the exit code of the process.
    pub fn open(config: Config, mode: OpenMode) -> Result<Self, ServerError> {
        // Before the model is loaded, which may take minutes: a mistyped directory,
        if mode != OpenMode::Ingest && !config.data.is_dir() {
            return Err(ServerError::NotAStore { path: config.data });
        }
        // a setting that does not fit the model, and an embedder that cannot be opened.
        fit::fusion(&config, &ModelConfig::from_dir(&config.model)?)?;
        let embedder = embedder::open(&config.embedder)?;
        let engine = config.device.spawn_engine(engine_options(&config));
        let engine = engine.map_err(|error| of_setting(&config, error))?;
        let model = engine.model();
        tuned::log(&config, &fingerprint(&engine));
        let prompt = open_prompt(&config, model)?;
        let splitter = open_splitter(&config, model, &prompt)?;
        let identity = store_identity::identity(model, &prompt);
        let store = open_store(&config, mode, identity.clone())?;
        if let Some(found) = store.foreign_identity() {
            tracing::warn!(%found, expected = %identity, "foreign store: every KV lookup is a miss");
        }
        let is_foreign = store.foreign_identity().is_some();
        let renewed = match (mode, is_foreign) {
            (OpenMode::Serve | OpenMode::Ingest, false) => Renewed::Stored,
            _ => Renewed::InMemory,
        };
        let mut index = index::load(
            &store,
            &*embedder,
            renewed,
            config.retrieval.index_options(),
        )?;
        // Only a server keeps a graph: for other commands exact search is soon enough.
        if mode == OpenMode::Serve {
            keeper::restore(&mut index, &dump_place(&config.data, &*embedder));
        }
        Ok(Self {
            memory: Arc::new(MemoryTier::new(config.store.memory_bytes)),
            unanswered: Arc::default(),
            config: Arc::new(config),
            engine,
            store: Arc::new(store),
            index: Arc::new(RwLock::new(index)),
            embedder,
            prompt: Arc::new(prompt),
            splitter: Arc::new(splitter),
            is_foreign,
        })
    }

    /// Starts the thread that builds the search graph. A store of another model is only read, so no dump is written
    /// into its directory.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn keep_graph(&self) -> std::io::Result<GraphKeeper> {
        let place = dump_place(&self.config.data, &*self.embedder);
        GraphKeeper::start(Arc::clone(&self.index), (!self.is_foreign).then_some(place))
    }

    /// Ids of a stored chunk in this prompt format. The ids in a foreign store come from another tokenizer or wrapper,
    /// so they are computed again from the text.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn chunk_ids<'c>(&self, chunk: &'c StoredChunk) -> Result<Cow<'c, [u32]>, PromptError> {
        if self.is_foreign {
            self.prompt.chunk_ids(&chunk.text).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(&chunk.record.token_ids))
        }
    }

    /// Ids between the conditioning prefix and a stored chunk when its KV is computed. A foreign store's ids come from
    /// another tokenizer, so its chunks have none.
    pub fn conditioning_ids<'c>(&self, chunk: &'c StoredChunk) -> &'c [u32] {
        if self.is_foreign {
            &[]
        } else {
            &chunk.record.conditioning_ids
        }
    }

    /// Everything that comes before a chunk when its KV is computed: the conditioning prefix, then the chunk's own
    /// conditioning ids.
    pub fn conditioning(&self, conditioning_ids: &[u32]) -> Arc<[u32]> {
        let prefix = self.prompt.conditioning_prefix();
        if conditioning_ids.is_empty() {
            return prefix;
        }
        prefix.iter().chain(conditioning_ids).copied().collect()
    }

    /// Key of the KV of a chunk with these ids, after the conditioning prefix and `conditioning_ids`.
    pub fn blob_key(&self, conditioning_ids: &[u32], token_ids: &[u32]) -> BlobKey {
        let identity = &self.engine.model().identity;
        BlobKey(identity.chunk_key(&self.conditioning(conditioning_ids), token_ids))
    }

    /// Writes the KV of a chunk to the store under the key from [`Components::blob_key`]; it takes effect once
    /// committed. Blocks.
    ///
    /// # Errors
    /// As `Store::append_blob`.
    pub fn append_kv(&self, key: BlobKey, kv: &ChunkKv) -> Result<PendingBlob, StoreError> {
        let n_tokens = kv.token_ids.len();
        let geometry = sizing::geometry(&self.engine.model().identity, n_tokens);
        let geometry = geometry.ok_or_else(|| StoreError::InvalidBlob {
            key,
            what: format!("{n_tokens} tokens are more than a record can hold"),
        })?;
        let layers = kv.layers.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        self.store.append_blob(key, geometry, &kv.token_ids, layers)
    }
}

/// Folder of the search graph's dump in the data directory.
const INDEX_FOLDER: &str = "index";

fn dump_place(data: &Path, embedder: &dyn Embedder) -> DumpPlace {
    DumpPlace {
        dir: data.join(INDEX_FOLDER),
        embedder_id: embedder.id().to_owned(),
    }
}

/// Engine options as configured.
pub fn engine_options(config: &Config) -> EngineOptions {
    EngineOptions {
        model_dir: config.model.clone(),
        dtype: config.dtype,
        kv_dtype: config.kv_dtype(),
        max_prefill_tokens: config.limits.max_prefill_tokens,
        max_model_len: config.limits.max_model_len,
        max_queue: config.limits.max_queue,
        prefix_cache_entries: config.limits.max_prefix_entries,
        read_timeout: config.store.read_timeout,
        isa: config.isa,
        random_weights: None,
    }
}

/// What the device or the process cannot do is reported as an error of the setting that asks for it.
fn of_setting(config: &Config, error: EngineError) -> ServerError {
    match error {
        EngineError::InvalidRequest {
            field: key @ ("dtype" | "kv_dtype" | "isa"),
            message,
        } => config.bad_value(key, message).into(),
        other => other.into(),
    }
}

/// The prompt format that model directory and configuration describe.
///
/// # Errors
/// A model without a tokenizer, or a format that cannot be cut or leaves no room for passages.
pub fn open_prompt(config: &Config, model: &ModelInfo) -> Result<PromptFormat, ServerError> {
    let format = PromptFormat::from_model(model, config.prompt.as_ref(), config.system.as_deref())
        .map_err(|error| unusable(config, error))?;
    fit::prompt(model, &format)?;
    Ok(format)
}

fn unusable(config: &Config, error: PromptError) -> ServerError {
    match error {
        PromptError::NoTokenizer { .. } => ServerError::NoTokenizer {
            model: config.model.clone(),
        },
        PromptError::NoSystemPlace => config.bad_value("system", error.to_string()).into(),
        other => other.into(),
    }
}

/// A splitter whose chunks, wrapper included, are within `ingest.chunk_tokens` and fit the model after the prefix.
///
/// # Errors
/// A `chunk_tokens` that leaves no room for text or does not fit the model.
pub fn open_splitter(
    config: &Config,
    model: &ModelInfo,
    prompt: &PromptFormat,
) -> Result<Splitter, ServerError> {
    let chunk_tokens = config.ingest.chunk_tokens;
    // A prompt leaves at least one position of the context for the answer.
    let room = model
        .max_model_len
        .saturating_sub(prompt.conditioning_prefix().len() + 1);
    if chunk_tokens > room {
        return Err(ServerError::ChunkTooLong {
            chunk_tokens,
            context: model.max_model_len,
            room,
        });
    }
    let wrapper = prompt.wrapper_tokens();
    let budget = chunk_tokens.saturating_sub(wrapper);
    if budget < MIN_CHUNK_TOKENS {
        return Err(ServerError::ChunkTooShort {
            chunk_tokens,
            wrapper,
        });
    }
    let Some(codec) = &model.tokenizer else {
        return Err(ServerError::NoTokenizer {
            model: config.model.clone(),
        });
    };
    Splitter::new(codec.plain_tokenizer(), budget).map_err(|error| ServerError::Splitter {
        message: error.to_string(),
    })
}

fn open_store(config: &Config, mode: OpenMode, identity: Identity) -> Result<Store, ServerError> {
    let options = StoreOptions {
        identity,
        create: mode == OpenMode::Ingest,
        allow_foreign: config.allow_recompute,
        max_segment_bytes: config.store.max_segment_bytes,
        min_free_bytes: config.store.min_free_bytes,
        kv_io: config.store.kv_io,
    };
    Store::open(&config.data, options).map_err(|error| match error {
        StoreError::Locked { path } => ServerError::Locked { path },
        StoreError::NotAStore { path } => ServerError::NotAStore { path },
        StoreError::ForeignIdentity { found, expected } => ServerError::ForeignStore {
            data: config.data.clone(),
            differences: store_identity::differences(&found.fields, &expected.fields),
            found: found.to_string(),
            expected: expected.to_string(),
        },
        other => other.into(),
    })
}
