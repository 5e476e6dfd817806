//! What can go wrong. Each text tells the caller what to do next.
//!
//! A [`ReadError`] concerns one file or one line and never ends a run; a [`RetrieverError`] concerns
//! the arguments of one call.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::document_id::BadDocumentId;
use crate::printable::Printable;

/// One document that could not be read. Reading continues with the next one.
#[derive(Debug, Error)]
#[error("{}{}: {problem}", Printable(path), line.map(|n| format!(", line {n}")).unwrap_or_default())]
pub struct ReadError {
    /// The file or folder concerned.
    pub path: PathBuf,
    /// Line of a JSONL file, counted from 1; `None` when the whole file is concerned.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: ReadProblem,
}

/// The reason of a [`ReadError`].
#[derive(Debug, Error)]
pub enum ReadProblem {
    /// The file system refused. The text has no path, because the [`ReadError`] prints it escaped.
    #[error("cannot read it: {error}; check that it exists and that you may read it")]
    Io {
        /// The error of the operating system.
        error: io::Error,
    },
    /// Neither a file nor a folder: a pipe, socket or device, which could block for ever.
    #[error("it is neither a file nor a folder; give the path of a file or folder")]
    NotAFile,
    /// [`ReadOptions::off_limits`](crate::ReadOptions::off_limits) excludes it.
    #[error("{why}; it is never read, give other paths")]
    OffLimits {
        /// Why it is excluded.
        why: &'static str,
    },
    /// No reader knows the extension of a file that was named explicitly.
    #[error("its extension is not .txt, .md, .markdown or .jsonl; rename or convert it")]
    UnknownFormat,
    /// The bytes are not UTF-8.
    #[error("from byte {valid_bytes} on it is not UTF-8; convert it to UTF-8")]
    NotUtf8 {
        /// Number of good bytes before the first bad one.
        valid_bytes: usize,
    },
    /// The document is larger than [`ReadOptions`](crate::ReadOptions) allows.
    #[error("it holds more than {limit_bytes} bytes; cut it into smaller documents")]
    TooLarge {
        /// The limit it exceeds.
        limit_bytes: u64,
    },
    /// The document has nothing but white space.
    #[error("it has no text; remove it or add text")]
    Empty,
    /// A JSONL line is not a record.
    #[error(
        "it is not a record: {message}; a line is \
         {{\"id\": string, \"text\": string, \"metadata\": {{string: string}}}}"
    )]
    BadRecord {
        /// What the parser found, with the column.
        message: String,
    },
    /// The document id cannot be used.
    #[error("its document id {why}; choose another")]
    BadId {
        /// What is wrong with the id.
        why: BadDocumentId,
    },
    /// An earlier document of this run has the same id.
    #[error("the document id `{id}` is already taken by {first}; give each document its own id")]
    DuplicateId {
        /// The id in question.
        id: String,
        /// The place of the first document with this id.
        first: String,
    },
    /// One file has more bad records than are listed one by one.
    #[error(
        "{count} more of its records cannot be read and are not listed; correct the listed ones first"
    )]
    More {
        /// Number of records that are not listed.
        count: usize,
    },
}

/// Arguments that cannot be used, or bytes that are not an embedding.
#[derive(Debug, Clone, Error, PartialEq)]
pub enum RetrieverError {
    /// The budget is too small for some characters.
    #[error("a chunk of {given} tokens is too small to hold text; use at least {minimum}")]
    ChunkBudgetTooSmall {
        /// The budget asked for, in tokens.
        given: usize,
        /// The smallest budget, in tokens.
        minimum: usize,
    },
    /// The tokenizer refused a text.
    #[error("the tokenizer failed: {message}")]
    Tokenizer {
        /// The tokenizer's message.
        message: String,
    },
    /// One character alone is longer than a chunk may be.
    #[error(
        "the character at byte {at_byte} takes {tokens} tokens, and a chunk holds {max_tokens}; \
         raise the chunk size"
    )]
    CharacterTooLong {
        /// Offset of the character in the document, in bytes.
        at_byte: usize,
        /// Its length in tokens.
        tokens: usize,
        /// The budget of a chunk, in tokens.
        max_tokens: usize,
    },
    /// There is nothing to embed.
    #[error("the text is blank: there is nothing to search for or to embed")]
    BlankText,
    /// The embedder cannot be asked now: it is down, too slow or overloaded.
    #[error("{message}")]
    EmbedderUnavailable {
        /// Which embedder, why, and what to do.
        message: String,
    },
    /// The embedder answered with something that is not what was asked for.
    #[error("{message}")]
    BadEmbedderAnswer {
        /// Which embedder, what is wrong, and what to do.
        message: String,
    },
    /// The numbers of an embedding break its rules.
    #[error("the embedding is unusable: {what}")]
    BadEmbedding {
        /// The rule that is broken.
        what: &'static str,
    },
    /// Bytes that no version of the codec wrote.
    #[error("the stored embedding is damaged: {what}; ingest the document again")]
    DamagedBytes {
        /// What does not fit.
        what: &'static str,
    },
    /// Bytes of another version of the codec.
    #[error("the stored embedding has version {found}, this program reads {supported}")]
    UnsupportedVersion {
        /// Version found in the bytes.
        found: u8,
        /// Version this build reads and writes.
        supported: u8,
    },
    /// Vectors of two embedders cannot be compared.
    #[error("the stored embedding was made by another embedder; make it again from the text")]
    OtherEmbedder,
    /// Dense and sparse vectors cannot be compared.
    #[error("the index holds {expected} vectors and was given a {found} one; use one embedder")]
    WrongKind {
        /// Kind of the vectors in the index.
        expected: &'static str,
        /// Kind of the vector given.
        found: &'static str,
    },
    /// Dense vectors of different lengths cannot be compared.
    #[error(
        "the index holds vectors of {expected} numbers, this one has {found}; use one embedder"
    )]
    WrongDimension {
        /// Length of the vectors in the index.
        expected: usize,
        /// Length of the vector given.
        found: usize,
    },
    /// The chunk is in the index already.
    #[error("chunk `{chunk_id}` is already in the index; remove its document first")]
    DuplicateChunk {
        /// Id of the chunk.
        chunk_id: String,
    },
    /// Row numbers are 32-bit.
    #[error("the index is full: it holds {limit} chunks")]
    IndexFull {
        /// Largest number of chunks.
        limit: usize,
    },
}
