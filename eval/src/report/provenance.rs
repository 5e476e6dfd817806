//! Where each figure comes from: command, commit, device, model, date.

use serde_json::Value;

use super::document::{Block, Cell, DASH, Section, Table};
use super::evidence::Evidence;
use super::run::{Content, Run};

/// As many characters of a hash as tell it from others.
const HASH_CHARS: usize = 12;

pub(crate) fn section(evidence: &Evidence<'_>) -> Section {
    let mut blocks = vec![Block::Text(
        "Every figure above comes from one of these runs, in the order given.".to_owned(),
    )];
    blocks.extend(evidence.runs.iter().filter_map(remark).map(Block::Note));
    blocks.extend(table(evidence.runs).block());
    for run in evidence.runs {
        blocks.extend(configuration(run).block());
    }
    Section {
        id: "provenance",
        title: "Runs",
        blocks,
    }
}

/// What kept a run out of the report.
fn remark(run: &Run) -> Option<String> {
    let Run { name, header, .. } = run;
    match &run.content {
        Content::Unknown => Some(format!(
            "Run {name} is of kind “{}”, which this report does not know (it knows quality, ttft, \
             load and decay); nothing of it is shown.",
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
    let header = [
        "run",
        "kind",
        "commit",
        "device",
        "model",
        "fingerprint",
        "layers",
        "seed",
        "date",
        "command",
    ];
    let mut table = Table::new("Where the figures come from", &header, header.len());
    for run in runs {
        table.push(cells(run));
    }
    table
}

fn cells(run: &Run) -> Vec<Cell> {
    let header = &run.header;
    let model = header.model.as_ref();
    let hash = |hash: Option<&String>| Cell::code(hash.map_or(DASH.into(), |hash| shown(hash)));
    let code = |text: Option<&String>| Cell::code(text.map_or(DASH, String::as_str));
    let layers = model.and_then(|model| model.layers);
    vec![
        Cell::code(&run.name),
        Cell::code(&header.kind),
        hash(header.commit.as_ref()),
        code(header.device.as_ref()),
        code(model.and_then(|model| model.name.as_ref())),
        hash(model.and_then(|model| model.fingerprint.as_ref())),
        Cell::text(layers.map_or_else(|| DASH.to_owned(), |layers| layers.to_string())),
        Cell::code(plain(&header.seed)),
        Cell::code(plain(&header.date)),
        code(header.command.as_ref()),
    ]
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
    let caption = format!("Configuration of {}", run.name);
    let mut table = Table::new(caption, &["setting", "value"], 2);
    let settings = run.header.config.as_object().into_iter().flatten();
    for (name, value) in settings {
        table.push(vec![Cell::code(name), Cell::code(plain(value))]);
    }
    table
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
