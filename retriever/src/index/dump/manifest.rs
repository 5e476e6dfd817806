//! What a dump says about itself. Every field is compared with what the index needs, or with a file.

use std::io::Read as _;
use std::path::Path;

use fs_err::File;
use serde::{Deserialize, Serialize};

use super::error::DumpError;
use crate::index::options::IndexOptions;

pub(super) const MANIFEST: &str = "manifest.json";
/// Changes with the files or their meaning.
const FORMAT: u32 = 1;
/// Other releases may write other files. A test keeps it equal to the version in `Cargo.lock`.
const HNSW_RS: &str = "0.3.5";
/// A manifest takes about 1 KiB; its embedder's name is the only text of free length.
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) settings: Settings,
    /// Rows that the graph covers.
    pub(super) rows: usize,
    pub(super) hashes: Hashes,
}

/// What must be equal for a dump to be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::index) struct Settings {
    format: u32,
    hnsw_rs: String,
    /// The files of `hnsw_rs` hold numbers as the machine has them.
    machine: String,
    dimension: usize,
    m: usize,
    ef_construction: usize,
    embedder: String,
}

/// BLAKE3 of each file, in hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hashes {
    pub(super) graph: String,
    pub(super) data: String,
    pub(super) rows: String,
}

impl Settings {
    pub(in crate::index) fn new(dimension: usize, embedder: &str, options: &IndexOptions) -> Self {
        let endian = if cfg!(target_endian = "big") {
            "big"
        } else {
            "little"
        };
        Self {
            format: FORMAT,
            hnsw_rs: HNSW_RS.to_owned(),
            machine: format!("{}-bit {endian}-endian", usize::BITS),
            dimension,
            m: options.m,
            ef_construction: options.ef_construction,
            embedder: embedder.to_owned(),
        }
    }

    /// Refuses a dump of other settings, and names the first that differs.
    pub(super) fn check(&self, expected: &Self) -> Result<(), DumpError> {
        let fields = [
            (
                "format",
                self.format.to_string(),
                expected.format.to_string(),
            ),
            ("hnsw_rs", self.hnsw_rs.clone(), expected.hnsw_rs.clone()),
            ("machine", self.machine.clone(), expected.machine.clone()),
            (
                "dimension",
                self.dimension.to_string(),
                expected.dimension.to_string(),
            ),
            ("m", self.m.to_string(), expected.m.to_string()),
            (
                "ef_construction",
                self.ef_construction.to_string(),
                expected.ef_construction.to_string(),
            ),
            ("embedder", self.embedder.clone(), expected.embedder.clone()),
        ];
        match fields
            .into_iter()
            .find(|(_, found, expected)| found != expected)
        {
            None => Ok(()),
            Some((field, found, expected)) => Err(DumpError::OtherSettings {
                field,
                found,
                expected,
            }),
        }
    }
}

impl Manifest {
    pub(super) fn read(dir: &Path) -> Result<Self, DumpError> {
        let file = dir.join(MANIFEST);
        let mut bytes = Vec::new();
        File::open(&file)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(|error| DumpError::Damaged {
            file,
            what: format!("is not a manifest: {error}"),
        })
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain structs of text and numbers") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        let expected = format!("name = \"hnsw_rs\"\nversion = \"{HNSW_RS}\"\n");
        assert!(
            lock.contains(&expected),
            "set HNSW_RS to the version in Cargo.lock"
        );
    }
}
