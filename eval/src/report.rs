//! `ragweave-eval report`: run directories become one HTML page with charts and one Markdown page
//! with the tables. Nothing is measured here.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::experiment::print_text;

mod chart;
mod document;
mod html;
mod markdown;

mod curves;
mod evidence;
mod metric;
mod mode;
mod palette;
mod run;

mod by_ratio;
mod decay;
mod deviation;
mod layers;
mod load;
mod pareto;
mod provenance;
mod scores;
mod stages;

use document::Document;
use evidence::Evidence;
use run::{Content, Run, read_runs};

/// Arguments of `ragweave-eval report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directories that `quality`, `ttft`, `load` and `decay` wrote
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Where report.html and report.md are written [default: runs/report-<unix seconds>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// Names the file of a run that cannot be read, with line and field, or the file that cannot be
/// written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runs = read_runs(&args.runs)?;
    warn_of_left_out(&runs);
    let document = document(&runs);
    let out = args.out.clone().unwrap_or_else(default_out);
    for (name, text) in [
        ("report.html", html::page(&document)),
        ("report.md", markdown::page(&document)),
    ] {
        print_text(&write(&out, name, &text)?)?;
    }
    Ok(())
}

fn default_out() -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |since| since.as_secs());
    Path::new("runs").join(format!("report-{seconds}"))
}

/// Writes a page, and gives the path to print.
fn write(out: &Path, name: &str, text: &str) -> anyhow::Result<String> {
    let path = out.join(name);
    fs_err::create_dir_all(out)
        .and_then(|()| fs_err::write(&path, text))
        .context("write the report; --out names another directory")?;
    Ok(path.display().to_string())
}

fn warn_of_left_out(runs: &[Run]) {
    for run in runs {
        match run.content {
            Content::Unknown => {
                tracing::warn!(
                    run = run.name,
                    kind = run.header.kind,
                    "unknown kind: left out"
                );
            }
            Content::Unfinished => {
                tracing::warn!(
                    run = run.name,
                    "no summary.json, the run has not ended: left out"
                );
            }
            Content::Quality(..) | Content::Ttft(_) | Content::Load(_) | Content::Decay(_) => {}
        }
    }
}

fn document(runs: &[Run]) -> Document {
    let evidence = Evidence::new(runs);
    Document {
        title: "ragweave: quality and speed of fused prefill",
        sections: vec![
            by_ratio::section(&evidence),
            pareto::section(&evidence),
            stages::section(&evidence),
            deviation::section(&evidence),
            layers::section(&evidence),
            load::section(&evidence),
            decay::section(&evidence),
            scores::section(&evidence),
            provenance::section(&evidence),
        ],
    }
}
