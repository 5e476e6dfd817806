//! Shared by the command line tests: the built binary, the tiny models, small corpora.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A fixture model, by the name of its directory.
pub fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// The `ragweave` binary with no configuration from the environment.
pub fn ragweave() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ragweave"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RAGWEAVE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A corpus, a data directory and the tiny Qwen3, in a temporary directory.
pub struct Site {
    pub root: TempDir,
    pub model: PathBuf,
}

impl Site {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir(root.path().join("corpus")).unwrap();
        Self {
            root,
            model: model("tiny-qwen3"),
        }
    }

    /// With a small corpus of three documents.
    pub fn with_corpus() -> Self {
        let site = Self::new();
        site.write(
            "brindle.md",
            "# Brindle\n\nThe fox lives in Brindle. The harbour is small.\n",
        );
        site.write(
            "corin.txt",
            "Corin mends nets in the harbour. He has a blue lantern.\n",
        );
        site.write("records.jsonl", "{\"id\": \"tor\", \"text\": \"Tor keeps the sword.\", \"metadata\": {\"world\": \"7\"}}\n");
        site
    }

    pub fn corpus(&self) -> PathBuf {
        self.root.path().join("corpus")
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs_err::write(self.corpus().join(name), text).unwrap();
    }

    /// A copy of the model that a test may damage.
    pub fn copy_model(&mut self) -> PathBuf {
        let copy = self.root.path().join("model");
        fs_err::create_dir(&copy).unwrap();
        for entry in fs_err::read_dir(&self.model).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs_err::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
            }
        }
        self.model.clone_from(&copy);
        copy
    }

    /// `ragweave ingest CORPUS --data .. --model .. ARGS`, not started yet.
    pub fn ingest_command(&self, args: &[&str]) -> Command {
        let mut command = ragweave();
        command.arg("ingest").arg(self.corpus());
        command
            .arg("--data")
            .arg(self.data())
            .arg("--model")
            .arg(&self.model)
            .args(args);
        command
    }

    pub fn ingest(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.ingest_command(args))
    }

    /// `ragweave store COMMAND --json`.
    pub fn store(&self, command: &str) -> Outcome {
        Outcome::of(
            ragweave()
                .args(["store", command, "--json", "--data"])
                .arg(self.data()),
        )
    }

    pub fn stats(&self) -> Value {
        let outcome = self.store("stats").expect_code(0);
        serde_json::from_str(&outcome.stdout).unwrap()
    }
}

/// A running `ragweave serve`; it is killed when this is dropped.
pub struct Serving {
    child: Child,
    /// The address that it announces.
    pub url: String,
}

impl Serving {
    /// Serves the site's data directory on a free port.
    pub fn start(site: &Site) -> Self {
        let mut child = ragweave()
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(site.data())
            .arg("--model")
            .arg(&site.model)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut words = line.split_whitespace();
        let url = words
            .find(|word| word.starts_with("http://"))
            .unwrap()
            .to_owned();
        Self { child, url }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The output of a finished process.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }

    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The error must hold each of `words`, and no trace of a panic.
    #[track_caller]
    pub fn expect_error(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The JSON lines on standard output.
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The last event, which sums up an ingest.
    #[track_caller]
    pub fn finished(&self) -> Value {
        let last = self.events().pop().unwrap();
        assert_eq!(last["event"], "finished");
        last
    }
}
