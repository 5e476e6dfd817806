//! Models split over several GGUF files, `NAME-00001-of-00003.gguf` and so on. The first has the
//! metadata, each has tensors of its own.

use std::collections::BTreeSet;
use std::path::Path;

use super::container::Container;
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

/// Opens the file and the parts that follow it.
pub(super) fn open(path: &Path) -> Result<Vec<Container>, EngineError> {
    let first = Container::open(path)?;
    let n_parts = first.metadata.u64(COUNT_KEY)?.unwrap_or(1).max(1);
    let mut parts = vec![first];
    if n_parts == 1 {
        return Ok(parts);
    }
    let refuse = |message: String| EngineError::unsupported(path, COUNT_KEY, message);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let Some(place) = place(&name).filter(|place| place.count == n_parts) else {
        return Err(refuse(format!(
            "says that this is one of {n_parts} files, so its name must end in \
             -00001-of-{n_parts:05}.gguf"
        )));
    };
    if place.number != 1 || n_parts > MAX_PARTS {
        return Err(refuse(format!(
            "says that this is one of {n_parts} files, of which at most {MAX_PARTS} are read; give \
             the first one, {}-00001-of-{n_parts:05}.gguf",
            place.stem
        )));
    }
    for number in 2..=n_parts {
        let name = format!("{}-{number:05}-of-{n_parts:05}.gguf", place.stem);
        parts.push(Container::open(&path.with_file_name(name))?);
    }
    refuse_twins(&parts)?;
    Ok(parts)
}

fn refuse_twins(parts: &[Container]) -> Result<(), EngineError> {
    let mut names = BTreeSet::new();
    for part in parts {
        if let Some(twin) = part.tensors.keys().find(|name| !names.insert(*name)) {
            let message = format!("corrupt: tensor {twin} is also in an earlier part of the model");
            return Err(EngineError::model_file(part.file.path(), message));
        }
    }
    Ok(())
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
        for whole in ["a", "a-of-b", "a-2-of-3", "a-00002-of-0000x", "00001-of-00002"] {
            assert_eq!(place(whole), None, "{whole}");
        }
    }
}
