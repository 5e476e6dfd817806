//! Models split over several GGUF files, `NAME-00001-of-00003.gguf` and so on. The first has the
//! metadata, each has tensors of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::container::{Container, Tensor};
use super::metadata::Metadata;
use crate::error::EngineError;

/// How many files the model is split over, in the first file's metadata.
const COUNT_KEY: &str = "split.count";
const MAX_PARTS: u64 = 1_000;
/// Digits of the part's number and of their count.
const DIGITS: usize = 5;

/// What the name of a part says, without its ending.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) stem: &'a str,
    pub(super) number: u64,
    pub(super) count: u64,
}

/// The place of a part with this file name; `None` for the name of a whole model.
pub(super) fn place(name: &str) -> Option<Place<'_>> {
    let (rest, count) = name.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let number_of = |digits: &str| {
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        (digits.len() == DIGITS && all_digits).then(|| digits.parse().ok())?
    };
    Some(Place {
        stem,
        number: number_of(number)?,
        count: number_of(count)?,
    })
}

/// An open model file, or all files of a split model.
#[derive(Debug)]
pub(crate) struct Parts {
    path: PathBuf,
    first: Container,
    others: Vec<Container>,
}

impl Parts {
    /// Opens the file at `path` and, if it is the first of a split model, the others.
    ///
    /// # Errors
    /// As [`Container::open`], for each file; and for a file that is missing or belongs elsewhere.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let first = Container::open(path)?;
        let names = other_names(&first, path)?;
        let others = names
            .iter()
            .map(|name| Container::open(&path.with_file_name(name)));
        let parts = Self {
            others: others.collect::<Result<_, _>>()?,
            path: path.to_owned(),
            first,
        };
        parts.refuse_twins()?;
        Ok(parts)
    }

    /// The path of the first file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.first.metadata
    }

    pub(crate) fn containers(&self) -> impl Iterator<Item = &Container> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.tensor(name).is_some()
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.containers().find_map(|part| part.tensors.get(name))
    }

    /// The bytes of a tensor, if there is one.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let read = |part: &Container| part.tensors.get(name).map(|tensor| part.read(tensor));
        self.containers().find_map(read).transpose()
    }

    fn refuse_twins(&self) -> Result<(), EngineError> {
        let mut names = BTreeSet::new();
        for part in self.containers() {
            if let Some(twin) = part.tensors.keys().find(|name| !names.insert(*name)) {
                let message = format!("corrupt: tensor {twin} is also in an earlier part");
                return Err(EngineError::model_file(part.file.path(), message));
            }
        }
        Ok(())
    }
}

/// The names of the files that follow the first one.
fn other_names(first: &Container, path: &Path) -> Result<Vec<String>, EngineError> {
    let n_parts = first.metadata.u64(COUNT_KEY)?.unwrap_or(1).max(1);
    if n_parts == 1 {
        return Ok(Vec::new());
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let place = place(&name).filter(|place| place.number == 1 && place.count == n_parts);
    match place {
        Some(place) if n_parts <= MAX_PARTS => Ok((2..=n_parts)
            .map(|number| format!("{}-{number:05}-of-{n_parts:05}.gguf", place.stem))
            .collect()),
        _ => Err(first.metadata.refuse(
            COUNT_KEY,
            format!(
                "says that this is one of {n_parts} files (at most {MAX_PARTS} are read); give the \
                 first one, whose name must end in -00001-of-{n_parts:05}.gguf"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_part_says_which_it_is() {
        let expected = Place {
            stem: "a-of-b",
            number: 2,
            count: 3,
        };
        assert_eq!(place("a-of-b-00002-of-00003"), Some(expected));
        for whole in [
            "a",
            "a-of-b",
            "a-2-of-3",
            "a-00002-of-0000x",
            "00001-of-00002",
        ] {
            assert_eq!(place(whole), None, "{whole}");
        }
    }
}
