//! The chunks' KV, made as ingest makes it and kept where the requests will read it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ragweave_engine::{ChunkKv, EngineHandle, KvIdentity, LayerSource, PromptSegments, Tier};
use ragweave_server::sources::BlobSource;
use ragweave_server::tier::MemoryTier;
use ragweave_store::page_cache::{self, Residency};
use ragweave_store::{BlobGeometry, BlobKey, ChunkRecord, Document, Identity, Store, StoreOptions};
use serde::Serialize;
use tempfile::TempDir;

use crate::experiment;

/// Id of the document that all chunks belong to.
const DOCUMENT_ID: &str = "bench";
/// Of the files that hold KV.
const SEGMENT_EXTENSION: &str = "seg";
/// More than any bench has.
const MEMORY_BUDGET_BYTES: u64 = 1 << 40;

/// Where requests read chunk KV from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KvPlace {
    /// Segment files of a ragweave store, in the page cache
    #[default]
    Store,
    /// The same, dropped from the page cache before each run; refused if the pages stay
    Cold,
    /// The server's memory tier in front of the store
    Memory,
}

/// KV of every chunk of one prompt, in a separate store. Cheap to clone; the files go with the last clone.
#[derive(Clone)]
pub(crate) struct Stock {
    store: Arc<Store>,
    chunks: Vec<(BlobKey, Vec<u32>)>,
    dir: Arc<TempDir>,
    /// Whether each run reads from the disk anew.
    cold: bool,
    /// For `--kv memory`: the server's tier in front of the store, where the first run to read a layer leaves it.
    memory: Option<Arc<MemoryTier>>,
}

impl Stock {
    /// Computes the KV of each chunk after the prompt's prefix and puts it in its place.
    pub(crate) async fn fill(
        place: KvPlace,
        scratch: Option<&Path>,
        engine: &EngineHandle,
        segments: &PromptSegments,
    ) -> anyhow::Result<Self> {
        // Before minutes go into computing.
        if place == KvPlace::Cold {
            expect_disk(scratch)?;
        }
        let dir = make_dir(scratch)?;
        let chunks = compute(engine, segments).await?;
        let store = write(dir.path(), engine, &segments.prefix, &chunks)?;
        let identity = &engine.model().identity;
        let key = |ids: &Vec<u32>| BlobKey(identity.chunk_key(&segments.prefix, ids));
        let keyed = segments.chunks.iter().map(|ids| (key(ids), ids.clone()));
        let in_memory = place == KvPlace::Memory;
        Ok(Self {
            store: Arc::new(store),
            chunks: keyed.collect(),
            dir: Arc::new(dir),
            cold: place == KvPlace::Cold,
            memory: in_memory.then(|| Arc::new(MemoryTier::new(MEMORY_BUDGET_BYTES))),
        })
    }

    /// The first `n` chunks alone.
    pub(crate) fn first(&self, n: usize) -> Self {
        let mut first = self.clone();
        first.chunks.truncate(n);
        first
    }

    /// Where its KV is read from.
    pub(crate) fn tier(&self) -> Tier {
        match self.memory {
            Some(_) => Tier::Memory,
            None => Tier::Disk,
        }
    }

    /// Before a run: cold reads come from the disk, or this fails.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        match self.cold {
            true => self.drop_page_cache(),
            false => Ok(()),
        }
    }

    /// The same chunks, read from the disk in every run and never from the page cache. KV in memory stays.
    pub(crate) fn read_cold(mut self) -> Self {
        self.cold = self.memory.is_none();
        self
    }

    /// Has the kernel forget the store's files, so that the next reads come from the disk, and checks that it did: what
    /// is still in memory is never called cold.
    fn drop_page_cache(&self) -> anyhow::Result<()> {
        let (mut folders, mut kept) = (vec![self.dir.path().to_owned()], Residency::default());
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let left = page_cache::forget(&path)
                    .with_context(|| format!("drop {} from the page cache", path.display()))?;
                if path.extension().is_some_and(|end| end == SEGMENT_EXTENSION) {
                    kept = kept.and(left);
                }
            }
        }
        expect_cold(kept, self.dir.path())
    }

    /// One source per chunk, opened anew.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<Option<Box<dyn LayerSource>>>> {
        let chunks = self.chunks.iter();
        let opened = chunks.map(|(key, ids)| {
            let reader = self.store.open_blob(key, ids)?;
            let reader = reader.context("the store lost a chunk")?;
            let source = BlobSource::new(Arc::clone(&self.store), reader);
            let source = match &self.memory {
                Some(memory) => source.through(Arc::clone(memory)),
                None => source,
            };
            Ok(Some(Box::new(source) as _))
        });
        opened.collect()
    }
}

/// `kept`: what is in memory of the KV in `dir` after it was dropped.
fn expect_cold(kept: Residency, dir: &Path) -> anyhow::Result<()> {
    if kept.is_cold() {
        return Ok(());
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    bail!(
        "{:.1} of {:.1} MiB of stored KV stay in memory though they were dropped from the page cache, so no read in \
         {} is cold; choose another disk with --scratch, or measure warm reads",
        mib(kept.resident_bytes),
        mib(kept.bytes),
        dir.display()
    )
}

/// Cold reads need a disk: an error where the file system of the directory keeps its files in memory.
pub(crate) fn expect_disk(scratch: Option<&Path>) -> anyhow::Result<()> {
    let dir = scratch.map_or_else(std::env::temp_dir, Path::to_owned);
    let memory = page_cache::memory_file_system(&dir);
    let memory = memory.with_context(|| format!("look at the file system of {}", dir.display()));
    if let Some(name) = memory.context("--scratch")? {
        bail!(
            "{} is {name}, which keeps its files in memory: nothing read there is cold; choose a directory on a disk with \
             --scratch, or measure KV in memory as such",
            dir.display()
        );
    }
    Ok(())
}

fn make_dir(scratch: Option<&Path>) -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("ragweave-bench.");
    let dir = match scratch {
        Some(scratch) => builder.tempdir_in(scratch),
        None => builder.tempdir(),
    };
    dir.context("make a directory for the store; see --scratch")
}

/// KV of each chunk, alone after the prefix.
async fn compute(engine: &EngineHandle, segments: &PromptSegments) -> anyhow::Result<Vec<ChunkKv>> {
    let conditioning: Arc<[u32]> = segments.prefix.as_slice().into();
    let bar = experiment::bar(segments.chunks.len(), "chunks of KV computed");
    let mut chunks = Vec::new();
    for ids in &segments.chunks {
        chunks.push(engine.chunk_kv(conditioning.clone(), ids.clone()).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(chunks)
}

/// A store that holds the chunks' KV as those of one document, durably.
fn write(
    dir: &Path,
    engine: &EngineHandle,
    prefix: &[u32],
    chunks: &[ChunkKv],
) -> anyhow::Result<Store> {
    let model = engine.model();
    let identity = Identity {
        fingerprint: model.identity.fingerprint(),
        description: format!("bench of {}", model.name),
        fields: Default::default(),
    };
    let store = Store::open(dir, StoreOptions::new(identity))?;
    let (mut records, mut blobs) = (Vec::new(), Vec::new());
    for (position, kv) in chunks.iter().enumerate() {
        let record = ChunkRecord {
            id: format!("{DOCUMENT_ID}#{position}"),
            start_byte: 0,
            end_byte: 0,
            token_ids: kv.token_ids.clone(),
            conditioning_ids: Vec::new(),
            key: BlobKey(model.identity.chunk_key(prefix, &kv.token_ids)),
            vector: Vec::new(),
            notes: Vec::new(),
        };
        let layers = kv.layers.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        let geometry = geometry(&model.identity, kv)?;
        blobs.push(store.append_blob(record.key, geometry, &record.token_ids, layers)?);
        records.push(record);
    }
    let document = Document {
        id: DOCUMENT_ID.to_owned(),
        text: String::new(),
        metadata: BTreeMap::new(),
        content_hash: [0; 32],
        chunks: records,
    };
    store.commit_document(&document, blobs)?;
    Ok(store)
}

fn geometry(identity: &KvIdentity, kv: &ChunkKv) -> anyhow::Result<BlobGeometry> {
    let n_tokens = kv.token_ids.len();
    Ok(BlobGeometry {
        n_layers: u32::try_from(kv.layers.len())?,
        n_tokens: u32::try_from(n_tokens)?,
        k_block_bytes: u32::try_from(identity.k_block_bytes(n_tokens))?,
        v_block_bytes: u32::try_from(identity.v_block_bytes(n_tokens))?,
        dtype: identity.dtype_tag(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_memory_is_not_cold() {
        let of = |resident_bytes| {
            let kept = Residency {
                bytes: 64 << 20,
                resident_bytes,
            };
            expect_cold(kept, Path::new("/scratch"))
        };
        assert!(of(0).is_ok());
        for resident_bytes in [64 << 20, 8 << 20] {
            let error = of(resident_bytes).unwrap_err().to_string();
            let said = format!("{}.0 of 64.0 MiB", resident_bytes >> 20);
            for part in [said.as_str(), "/scratch is cold", "--scratch"] {
                assert!(error.contains(part), "no {part} in {error}");
            }
        }
    }
}
