//! The graph on disk: a cache that is used only if every byte of it is as it was written and every
//! row it was made of is in the index.
//!
//! `hnsw_rs` ends the process on some bad dumps and reads out of bounds on others, so its files are
//! never given to it before their hashes are verified. A dump is a directory `hnsw` of four files:
//! the two of `hnsw_rs`; `rows`, a hash of chunk id and vector for each row; and `manifest.json`,
//! with the settings and the hashes of the other three.

mod error;
mod manifest;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use fs_err::File;

use super::graph::{DUMP_NAME, Graph};
use super::matrix::{BLOCK_ROWS, Block, Matrix};
use super::rows::Rows;
use manifest::{Hashes, MANIFEST, Manifest};

pub use error::DumpError;
pub(super) use manifest::Settings;

const ROWS: &str = "rows";
const CURRENT: &str = "hnsw";
const NEW: &str = "hnsw.new";

/// Length of a row's hash.
const HASH_BYTES: usize = 32;
type Hash = [u8; HASH_BYTES];

/// A complete graph, to be written while the index is in use.
#[derive(Debug)]
pub struct GraphDump {
    graph: Arc<Graph>,
    settings: Settings,
    chunk_ids: Vec<Arc<str>>,
    blocks: Vec<Block>,
}

impl GraphDump {
    pub(super) fn new(
        graph: Arc<Graph>,
        n_rows: u32,
        rows: &Rows,
        matrix: &Matrix,
        settings: Settings,
    ) -> Self {
        let chunk_ids = (0..n_rows).map(|row| Arc::clone(rows.chunk_id(row)));
        Self {
            graph,
            settings,
            chunk_ids: chunk_ids.collect(),
            blocks: matrix.blocks()[..n_rows as usize / BLOCK_ROWS].to_vec(),
        }
    }

    /// Number of rows that the graph covers.
    pub fn rows(&self) -> usize {
        self.chunk_ids.len()
    }

    /// Writes the dump below `dir`, which is made if need be, in place of an earlier one. After a
    /// crash at any point there is the old dump, the new one, or none.
    ///
    /// # Errors
    /// `Io` if the disk is full, say; `Graph`.
    pub fn write(&self, dir: &Path) -> Result<(), DumpError> {
        let (new, current) = (dir.join(NEW), dir.join(CURRENT));
        remove(&new)?;
        fs::create_dir_all(&new)?;
        let written = self.write_files(&new);
        if written.is_err() {
            let _ = remove(&new); // the first error is the one to report
            return written;
        }
        remove(&current)?;
        fs::rename(&new, &current)?;
        sync(dir)
    }

    fn write_files(&self, dir: &Path) -> Result<(), DumpError> {
        let graph = self.graph.write(dir);
        graph.map_err(|message| DumpError::Graph { message })?;
        let mut rows = BufWriter::new(File::create(dir.join(ROWS))?);
        let vectors = self
            .blocks
            .iter()
            .flat_map(|block| block.chunks_exact(block.len() / BLOCK_ROWS));
        for (chunk_id, vector) in self.chunk_ids.iter().zip(vectors) {
            rows.write_all(&row_hash(chunk_id, vector))?;
        }
        rows.flush()?;
        let manifest = Manifest {
            settings: self.settings.clone(),
            rows: self.rows(),
            hashes: hashes(dir)?,
        };
        fs::write(dir.join(MANIFEST), manifest.to_json())?;
        for file in [ROWS, MANIFEST]
            .map(str::to_owned)
            .into_iter()
            .chain(graph_files())
        {
            sync(&dir.join(file))?;
        }
        sync(dir)
    }
}

/// A dump whose files are intact and whose rows are all in the index.
pub(super) struct Intact {
    dir: PathBuf,
    /// New number of each row of the index: those of the dump in its order, then the others.
    pub(super) new_row: Vec<Option<u32>>,
    pub(super) n_rows: u32,
}

impl Intact {
    /// Verifies the dump below `dir` against the index.
    pub(super) fn open(
        dir: &Path,
        settings: &Settings,
        rows: &Rows,
        matrix: &Matrix,
    ) -> Result<Self, DumpError> {
        let dir = dir.join(CURRENT);
        if !dir.is_dir() {
            return Err(DumpError::Absent { dir });
        }
        let manifest = Manifest::read(&dir)?;
        manifest.settings.check(settings)?;
        check_hashes(&dir, &manifest.hashes)?;
        let dumped = read_rows(&dir, manifest.rows)?;
        let new_row = order(&dumped, rows, matrix)?;
        let n_rows = dumped.len() as u32;
        Ok(Self {
            dir,
            new_row,
            n_rows,
        })
    }

    /// Reads the graph, once the rows of the index have their new numbers.
    pub(super) fn graph(&self, matrix: &Matrix) -> Result<Graph, DumpError> {
        let graph = Graph::read(
            &self.dir,
            matrix.dimension(),
            matrix.blocks(),
            0..self.n_rows,
        );
        graph.map_err(|message| DumpError::Graph { message })
    }
}

/// The number of each row if those of the dump come first, in its order.
fn order(dumped: &[Hash], rows: &Rows, matrix: &Matrix) -> Result<Vec<Option<u32>>, DumpError> {
    let place: HashMap<&Hash, u32> = dumped.iter().zip(0..).collect();
    let mut next = dumped.len() as u32;
    let mut found = 0;
    let new_row: Vec<Option<u32>> = (0..rows.len() as u32)
        .map(|row| {
            let dumped = place.get(&row_hash(rows.chunk_id(row), matrix.row(row)));
            found += usize::from(dumped.is_some());
            Some(dumped.copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            }))
        })
        .collect();
    match dumped.len() - found {
        0 => Ok(new_row),
        missing => Err(DumpError::Stale {
            missing,
            rows: dumped.len(),
        }),
    }
}

/// Chunk ids are unique in an index, so no two rows have one hash.
fn row_hash(chunk_id: &str, vector: &[f32]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(chunk_id.len() as u64).to_le_bytes());
    hasher.update(chunk_id.as_bytes());
    hasher.update(bytemuck::cast_slice(vector));
    *hasher.finalize().as_bytes()
}

fn read_rows(dir: &Path, n: usize) -> Result<Vec<Hash>, DumpError> {
    let file = dir.join(ROWS);
    let bytes = fs::read(&file)?; // verified, so as long as it was written
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    if hashes.len() != n
        || !rest.is_empty()
        || !n.is_multiple_of(BLOCK_ROWS)
        || u32::try_from(n).is_err()
    {
        let what = format!("has {} bytes for {n} rows", bytes.len());
        return Err(DumpError::Damaged { file, what });
    }
    Ok(hashes.to_vec())
}

fn graph_files() -> [String; 2] {
    ["graph", "data"].map(|kind| format!("{DUMP_NAME}.hnsw.{kind}"))
}

fn hashes(dir: &Path) -> io::Result<Hashes> {
    let [graph, data] = graph_files();
    Ok(Hashes {
        graph: hash_of(&dir.join(graph))?,
        data: hash_of(&dir.join(data))?,
        rows: hash_of(&dir.join(ROWS))?,
    })
}

fn check_hashes(dir: &Path, expected: &Hashes) -> Result<(), DumpError> {
    let [graph, data] = graph_files();
    let files = [
        (graph, &expected.graph),
        (data, &expected.data),
        (ROWS.to_owned(), &expected.rows),
    ];
    for (name, expected) in files {
        let file = dir.join(name);
        if !file.is_file() {
            let what = "is missing".to_owned();
            return Err(DumpError::Damaged { file, what });
        }
        if hash_of(&file)? != *expected {
            let what = "is not what was written: its hash differs".to_owned();
            return Err(DumpError::Damaged { file, what });
        }
    }
    Ok(())
}

fn hash_of(file: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), DumpError> {
    Ok(File::open(path)?.sync_all()?)
}
