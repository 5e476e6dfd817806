//! Where each figure comes from: command, commit, device, model.

use serde_json::Value;

use super::document::{Block, Cell, DASH, Section, Table};
use super::evidence::Evidence;
use super::run::{Content, Run};

/// So many characters of a hash are enough to tell it from others.
const HASH_CHARS: usize = 12;

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let remarks = evidence.runs.iter().filter_map(remark).map(Block::Note);
    let configurations = evidence.runs.iter().map(configuration);
    let tables = [table(evidence.runs)].into_iter().chain(configurations);
    let blocks = remarks.chain(tables.filter_map(Table::block)).collect();
    let introduction = "Every figure above comes from one of these runs, in the order given.";
    Section::new(
        ["provenance", "Runs"],
        introduction,
        "No run was given.",
        blocks,
    )
}

/// Why a run is not in the report.
fn remark(run: &Run) -> Option<String> {
    let Run { name, header, .. } = run;
    match &run.content {
        Content::Unknown => Some(format!(
            "Run {name} is of kind “{}”, which this report does not cover (it covers quality, \
             ttft, load and decay); nothing of it is shown.",
            header.kind
        )),
        Content::Unfinished => Some(format!(
            "Run {name} has no summary.json: it was interrupted or is still going, and nothing of \
             it is shown. The same command with the same --out resumes it."
        )),
        Content::Quality(..) | Content::Ttft(_) | Content::Load(_) | Content::Decay(_) => None,
    }
}

fn table(runs: &[Run]) -> Table {
    let table = Table::of("Where the figures come from", runs)
        .column("run", |run| Cell::code(&run.name))
        .column("kind", |run| Cell::code(&run.header.kind))
        .column("commit", |run| {
            Cell::code(shown(run.header.commit.as_deref().unwrap_or_default()))
        })
        .column("device", |run| Cell::code(&run.header.device))
        .column("model", |run| Cell::code(&run.header.model.name))
        .column("fingerprint", |run| {
            Cell::code(shown(&run.header.model.fingerprint))
        })
        .column("layers", |run| Cell::text(run.header.model.layers))
        .column("seed", |run| Cell::code(run.header.seed))
        .column("command", |run| Cell::code(&run.header.command))
        .table();
    Table {
        names: table.header.len(),
        ..table
    }
}

/// The beginning of a hash, and what follows it, such as `-dirty`.
fn shown(hash: &str) -> String {
    let (digits, rest) = hash.split_at(hash.find('-').unwrap_or(hash.len()));
    digits
        .chars()
        .take(HASH_CHARS)
        .chain(rest.chars())
        .collect()
}

/// A value without quotes; a dash for null.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => DASH.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Every setting of a run, one row each.
fn configuration(run: &Run) -> Table {
    let settings = run.header.config.as_object().into_iter().flatten();
    let settings: Vec<(&String, &Value)> = settings.collect();
    let caption = format!("Configuration of {}", run.name);
    Table {
        names: 2,
        ..Table::of(caption, &settings)
            .column("setting", |setting| Cell::code(setting.0))
            .column("value", |setting| Cell::code(plain(setting.1)))
            .table()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_short_and_keep_that_files_differed() {
        assert_eq!(shown("03536c4e18a5b1b1d2c7-dirty"), "03536c4e18a5-dirty");
        assert_eq!(shown("none"), "none");
    }
}
