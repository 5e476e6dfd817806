//! From files to ranked chunks: read documents, split them, embed them, search them.
//!
//! This crate depends neither on a language model nor on a store: the caller passes a tokenizer,
//! which measures chunks; vectors are handed out as opaque bytes, and the index is rebuilt from
//! those bytes at start.
//!
//! ```
//! use ragweave_retriever::{Embedder, Filter, LexicalEmbedder, VectorIndex};
//!
//! let embedder = LexicalEmbedder::new();
//! let mut index = VectorIndex::default();
//! for (chunk, text) in [("a#0", "The fox lives in Brindle."), ("b#0", "Corin mends nets.")] {
//!     let document = &chunk[..1];
//!     index.insert(chunk, document, &Default::default(), embedder.embed_document(text)?)?;
//! }
//! let query = embedder.embed_query("Who lives in Brindle?")?;
//! let hits = index.search(&query, 3, &Filter::default())?;
//! assert_eq!(hits[0].chunk_id, "a#0");
//! # Ok::<(), ragweave_retriever::RetrieverError>(())
//! ```

mod document_id;
mod embed;
mod error;
mod index;
mod printable;
mod read;
mod split;

pub use document_id::{BadDocumentId, MAX_DOCUMENT_ID_BYTES, check_document_id};
pub use embed::{
    Embedder, Embedding, LexicalEmbedder, OpenEmbedderError, Parallelism, RemoteEmbedder,
    RemoteOptions, RemoteUrl, TransformerEmbedder, TransformerOptions,
};
pub use error::{ReadError, ReadProblem, RetrieverError};
pub use index::{
    DumpError, Filter, GraphDone, GraphDump, GraphStatus, GraphTask, IndexKind, IndexOptions,
    Replaced, Scored, VectorIndex,
};
pub use printable::Printable;
pub use read::{
    DocumentFormat, DocumentReader, OffLimits, ReadOptions, SourceDocument, read_documents,
    total_bytes,
};
pub use split::{ChunkSpan, MIN_CHUNK_TOKENS, Splitter};
