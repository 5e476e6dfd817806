//! A data directory with a small corpus, ingested with the tiny model.

use std::path::{Path, PathBuf};
use std::process::Command;

use ragweave_retriever::{DocumentFormat, SourceDocument};
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::ingest::{IngestOptions, Ingestor};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{checkout, ragweave_eval};

/// One chunk each.
const DOCUMENTS: [(&str, &str); 5] = [
    ("fox", "The fox lives in Brindle, behind the old mill."),
    ("net", "Corin mends nets in the harbour."),
    ("tor", "Tor keeps a sword under the stairs."),
    ("oak", "An oak stands where the two roads meet."),
    ("bell", "Nobody rings the bell of Dunmere."),
];

pub struct Site {
    dir: TempDir,
}

impl Site {
    /// Without KV, every lookup is a miss.
    pub fn new(no_kv: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args = CommonArgs {
            data: Some(dir.path().join("data")),
            model: Some(model()),
            ..CommonArgs::default()
        };
        let components = Components::open(Config::load(&args).unwrap(), OpenMode::Ingest).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(ingest(&components, no_kv));
        // The runtime holds tasks, and with them the store's lock.
        drop(runtime);
        Self { dir }
    }

    /// A subcommand over this corpus that writes to [`Site::out`] and prints JSON.
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = ragweave_eval();
        command.args([subcommand, "--json", "--data"]);
        command.arg(self.dir.path().join("data"));
        command.arg("--model").arg(model());
        command.arg("--out").arg(self.out());
        command
    }

    pub fn out(&self) -> PathBuf {
        self.path().join("run")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file of two questions over two and three chunks.
    pub fn questions(&self) -> PathBuf {
        self.questions_over([&["fox#0", "net#0", "tor#0"], &["oak#0", "fox#0"]])
    }

    pub fn questions_over(&self, contexts: [&[&str]; 2]) -> PathBuf {
        let path = self.path().join("questions.jsonl");
        let line = |(number, context): (usize, &&[&str])| {
            let question = json!({"id": format!("q{number}"), "question": "Where is it?",
                "answers": ["?"], "context_chunks": context});
            question.to_string()
        };
        let lines: Vec<String> = contexts.iter().enumerate().map(line).collect();
        fs_err::write(&path, lines.join("\n")).unwrap();
        path
    }
}

pub fn model() -> PathBuf {
    checkout("server/tests/fixtures/tiny-qwen3")
}

async fn ingest(components: &Components, no_kv: bool) {
    let ingestor = Ingestor::new(components);
    for (id, text) in DOCUMENTS {
        let source = SourceDocument {
            id: id.to_owned(),
            text: text.to_owned(),
            metadata: Default::default(),
            format: DocumentFormat::Text,
        };
        let options = IngestOptions { no_kv };
        ingestor.ingest(source, &options).await.unwrap();
    }
}
