//! `controller.json` in the data directory: what was learned, by machine and model. It is written atomically. A file
//! that cannot be read is replaced, because everything in it can be measured again.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fs_err::File;
use serde::{Deserialize, Serialize};

use super::rates::SavedRates;

/// Name of the file in the data directory.
pub const CONTROLLER_FILE: &str = "controller.json";
/// Version of the file's fields.
const FORMAT: u32 = 1;
/// Number of machines kept; the one written longest ago is removed first.
const MAX_MACHINES: usize = 16;

/// Everything besides the plan that determines how long it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub device: String,
    /// Identity of the KV that the model makes, lowercase hex.
    pub model_fingerprint: String,
    pub dtype: String,
    pub kv_dtype: String,
    /// Logical processors.
    pub threads: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    format: u32,
    /// The most recently written machine is at the end.
    machines: Vec<SavedMachine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedMachine {
    #[serde(flatten)]
    machine: Machine,
    rates: SavedRates,
}

/// The rates of a machine, if the file holds any. Logs why a file is ignored.
pub(super) fn read(data: &Path, machine: &Machine) -> Option<SavedRates> {
    let path = data.join(CONTROLLER_FILE);
    match load(&path) {
        Ok(saved) => of_machine(saved, machine),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let file = path.display();
            tracing::warn!(%file, %error, "learned rates cannot be read: measuring anew");
            None
        }
    }
}

/// Writes the rates of a machine and keeps those of others.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(data: &Path, machine: &Machine, rates: SavedRates) -> io::Result<PathBuf> {
    let path = data.join(CONTROLLER_FILE);
    let unfinished = data.join(format!("{CONTROLLER_FILE}.tmp"));
    let known = load(&path).map_or_else(|_| Vec::new(), |saved| saved.machines);
    let others = known.into_iter().filter(|known| known.machine != *machine);
    let mut machines: Vec<SavedMachine> = others.collect();
    machines.drain(..machines.len().saturating_sub(MAX_MACHINES - 1));
    machines.push(SavedMachine {
        machine: machine.clone(),
        rates,
    });
    let saved = Saved {
        format: FORMAT,
        machines,
    };
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec_pretty(&saved)?)?;
    file.sync_all()?;
    fs_err::rename(&unfinished, &path)?;
    Ok(path)
}

fn load(path: &Path) -> io::Result<Saved> {
    let saved: Saved = serde_json::from_slice(&fs_err::read(path)?)?;
    if saved.format != FORMAT {
        let message = format!("it has format {}, not {FORMAT}", saved.format);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(saved)
}

fn of_machine(saved: Saved, machine: &Machine) -> Option<SavedRates> {
    let mut machines = saved.machines.into_iter();
    machines
        .find(|known| known.machine == *machine)
        .map(|known| known.rates)
}

#[cfg(test)]
mod tests {
    use super::super::rates::Rates;
    use super::*;

    fn machine(device: &str) -> Machine {
        Machine {
            device: device.to_owned(),
            model_fingerprint: "ab".to_owned(),
            dtype: "f32".to_owned(),
            kv_dtype: "f16".to_owned(),
            threads: 2,
        }
    }

    #[test]
    fn rates_are_kept_by_machine() {
        let dir = tempfile::tempdir().unwrap();
        let rates = Rates::new().save();
        let knows = |device: &str| read(dir.path(), &machine(device)).is_some();
        assert!(!knows("cpu"));
        write(dir.path(), &machine("cpu"), rates.clone()).unwrap();
        let read_again = read(dir.path(), &machine("cpu")).unwrap();
        assert!(Rates::restore(&read_again).is_some());
        assert!(!knows("cuda:0"), "another machine");
        write(dir.path(), &machine("cuda:0"), rates.clone()).unwrap();
        assert!(knows("cpu") && knows("cuda:0"));
        for index in 0..MAX_MACHINES {
            write(
                dir.path(),
                &machine(&format!("cuda:{index}")),
                rates.clone(),
            )
            .unwrap();
        }
        assert!(!knows("cpu"), "the oldest went");
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_does_not_count_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CONTROLLER_FILE);
        for text in [
            "",
            "not json",
            "{\"format\": 7, \"machines\": []}",
            "{\"format\": 1}",
        ] {
            fs_err::write(&path, text).unwrap();
            assert_eq!(read(dir.path(), &machine("cpu")), None, "{text}");
            write(dir.path(), &machine("cpu"), Rates::new().save()).unwrap();
            assert!(read(dir.path(), &machine("cpu")).is_some(), "{text}");
        }
    }
}
