//! `ragweave-eval quality`: answers and fidelity of policies at several ratios, over datasets.
//!
//! Every mode answers over the same token ids and the same stored KV as full prefill does, so that
//! nothing but the mode differs. Results are resumable, and a summary is the same for the same seed.

use std::collections::HashSet;

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use ragweave_engine::DeviationMap;
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::embedder;
use ragweave_server::error::ServerError;
use serde_json::{Value, json};

use crate::dataset::{self, Dataset, Example, Making};
use crate::examiner::{Examiner, Prepared};
use crate::experiment::{self, block_on};
use crate::flags::{parse_count, parse_ratio};
use crate::metric::Metric;
use crate::mode_spec::ModeSpec;
use crate::run_dir::{RunArgs, RunDir, RunHeader, RunKind, RunModel};
use crate::subject::Subject;

pub(crate) mod heat_map;
mod item;
mod library;
mod modes;
pub(crate) mod row;
pub(crate) mod score;
pub(crate) mod summary;
pub(crate) mod times;

use heat_map::HeatMap;
use item::{DeviationItem, Item, Line, Log};
use library::{Library, Neighbours};
use summary::Report;
use times::Times;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to ask: demo, ruler:TASK@TOKENS, FILE, or FORMAT:FILE with FORMAT jsonl, musique or
    /// longbench (repeatable)
    #[arg(
        long = "dataset",
        value_name = "SPEC",
        required_unless_present = "demo"
    )]
    datasets: Vec<String>,
    /// The demo model on questions of its own kind
    #[arg(long)]
    demo: bool,
    /// Seeds of generated datasets; each seed gives the demo its own worlds
    #[arg(
        long,
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "11,12,13"
    )]
    seeds: Vec<u64>,
    /// Questions per dataset; for the demo, per seed
    #[arg(long, value_name = "N", value_parser = parse_count)]
    questions: Option<usize>,
    /// Policies to measure at every ratio, such as hkvd@2,first-k~mean,first-k+query/all
    /// [default: every policy]
    #[arg(long, value_name = "POLICY,..", value_delimiter = ',')]
    policies: Vec<String>,
    /// Shares of the inexact context tokens that blend recomputes
    #[arg(long, value_name = "R,..", value_delimiter = ',', value_parser = parse_ratio,
        default_value = "0.01,0.02,0.05,0.1,0.15,0.2,0.3")]
    ratios: Vec<f64>,
    /// Metrics the printed table shows; the summary holds all [default: the task's own score, kl,
    /// top1_agreement]
    #[arg(long, value_name = "METRIC,..", value_delimiter = ',')]
    metrics: Vec<Metric>,
    /// Similar chunks each chunk attends to when its KV is computed (neighbour conditioning)
    #[arg(long, value_name = "N", default_value = "0")]
    neighbours: usize,
    /// Examples per dataset whose deviation from full prefill is mapped
    #[arg(long, value_name = "N", default_value = "100")]
    deviation_examples: usize,
    /// Seed of the intervals and of random rows
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    common: CommonArgs,
}

const DEMO_MODEL: &str = "demo/model";

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load_for_model(&args.common())?;
    let subject = Subject::open(&config)?;
    let specs = modes::specs(&args.policies, &args.ratios, subject.n_layers())?;
    let datasets = args.open_datasets(&subject)?;
    let header = RunHeader::new(
        RunKind::Quality,
        &args.config(&specs, &datasets, &config, &subject),
        config.device,
        RunModel::of(subject.model()),
        args.seed,
    )?;
    let (run_dir, items): (RunDir, _) = args.run.open(header)?;
    let mut run = Run {
        log: Log::resume(run_dir, items),
        subject: &subject,
        specs: &specs,
        deviation_examples: args.deviation_examples,
        heat_map: None,
        bar: experiment::bar(n_answers(&datasets, &specs), "answers"),
    };
    let neighbours = args.similar(&config)?;
    block_on(run.measure(&datasets, neighbours.as_ref()))?;
    run.bar.finish_and_clear();
    let Run { log, heat_map, .. } = run;
    let report = Report::new(&datasets, &specs, &log, args.seed, heat_map);
    let times = Times::new(&datasets, &specs, &log);
    log.run_dir.write("times.json", &times)?;
    log.run_dir
        .finish(&args.run, &report, report.describe(&args.metrics))
}

fn n_answers(datasets: &[Dataset], specs: &[ModeSpec]) -> usize {
    let examples: usize = datasets.iter().map(|dataset| dataset.examples.len()).sum();
    examples * specs.len()
}

impl Args {
    fn common(&self) -> CommonArgs {
        let mut common = self.common.clone();
        if self.demo && common.model.is_none() {
            common.model = Some(DEMO_MODEL.into());
        }
        common
    }

    /// How each chunk finds its neighbours, if it is to have any.
    fn similar(&self, config: &Config) -> anyhow::Result<Option<Neighbours>> {
        if self.neighbours == 0 {
            return Ok(None);
        }
        let embedder = embedder::open(&config.embedder).map_err(ServerError::from)?;
        let n = self.neighbours;
        Ok(Some(Neighbours { embedder, n }))
    }

    fn specs_of_datasets(&self) -> Vec<String> {
        let demo = self.demo.then(|| "demo".to_owned()).into_iter();
        demo.chain(self.datasets.iter().cloned()).collect()
    }

    /// Everything that decides what is measured.
    fn config(
        &self,
        specs: &[ModeSpec],
        datasets: &[Dataset],
        config: &Config,
        subject: &Subject,
    ) -> Value {
        let mut deciding = json!({
            "datasets": self.specs_of_datasets(),
            "seeds": self.seeds,
            "questions": self.questions,
            "modes": specs,
            "neighbours": self.neighbours,
            "deviation_examples": self.deviation_examples,
            "chunk_tokens": config.ingest.chunk_tokens,
            "max_model_len": subject.model().max_model_len,
            "kv_dtype": config.kv_dtype().to_string(),
            "system": config.system,
            // Over questions, answers and documents: a file may have changed.
            "dataset_hashes": datasets.iter().map(Dataset::hash).collect::<Vec<_>>(),
        });
        if self.neighbours > 0 {
            deciding["embedder"] = format!("{:?}", config.embedder.model).into();
        }
        deciding
    }

    fn open_datasets(&self, subject: &Subject) -> anyhow::Result<Vec<Dataset>> {
        let making = Making {
            seeds: &self.seeds,
            count_tokens: &|text| subject.count_tokens(text),
        };
        let specs = self.specs_of_datasets();
        let open = |spec: &String| {
            let dataset = dataset::open(spec, self.questions, &making)?;
            for skipped in &dataset.skipped {
                let (line, problem) = (skipped.line, &skipped.problem);
                tracing::warn!(dataset = spec, line, "skipped: {problem}");
            }
            Ok(dataset)
        };
        let datasets: Vec<Dataset> = specs.iter().map(open).collect::<anyhow::Result<_>>()?;
        // Results are kept by name and id.
        let mut names = HashSet::new();
        for dataset in &datasets {
            let name = &dataset.name;
            ensure!(
                names.insert(name),
                "two datasets are called `{name}`; rename one file"
            );
        }
        let distinct: HashSet<&u64> = self.seeds.iter().collect();
        ensure!(
            distinct.len() == self.seeds.len(),
            "--seeds names a seed twice"
        );
        Ok(datasets)
    }
}

struct Run<'a> {
    log: Log,
    subject: &'a Subject,
    specs: &'a [ModeSpec],
    deviation_examples: usize,
    /// Of the first example.
    heat_map: Option<HeatMap>,
    bar: ProgressBar,
}

impl Run<'_> {
    /// Measures what the log does not hold yet.
    async fn measure(
        &mut self,
        datasets: &[Dataset],
        neighbours: Option<&Neighbours>,
    ) -> anyhow::Result<()> {
        for dataset in datasets {
            let mut library = Library::new(self.subject, dataset, neighbours)?;
            for (number, example) in dataset.examples.iter().enumerate() {
                let done = self.example(&mut library, dataset, example, number).await;
                done.with_context(|| format!("{}, example {}", dataset.name, example.id))?;
            }
        }
        Ok(())
    }

    async fn example(
        &mut self,
        library: &mut Library<'_>,
        dataset: &Dataset,
        example: &Example,
        number: usize,
    ) -> anyhow::Result<()> {
        let (log, name) = (&self.log, &dataset.name);
        let is_open = |spec: &&ModeSpec| log.get(name, &example.id, &spec.to_string()).is_none();
        let open: Vec<&ModeSpec> = self.specs.iter().filter(is_open).collect();
        let is_mapped = self.log.deviation(&dataset.name, &example.id).is_some();
        let wants_map = number < self.deviation_examples && !is_mapped;
        self.bar.inc((self.specs.len() - open.len()) as u64);
        if open.is_empty() && !wants_map && self.heat_map.is_some() {
            return Ok(());
        }
        let prepared = library.prepare(example).await?;
        let map = match number < self.deviation_examples || self.heat_map.is_none() {
            true => Some(self.map(dataset, example, &prepared, wants_map).await?),
            false => None,
        };
        if open.is_empty() {
            return Ok(());
        }
        let examiner = Examiner(&self.subject.engine);
        let reference = examiner.full(&prepared).await?;
        for spec in open {
            let outcome = examiner.examine(&prepared, spec, number, &reference).await;
            let outcome = outcome.with_context(|| format!("under {spec}"))?;
            let item = Item::new(dataset, example, spec, &outcome, map.as_ref(), self.subject)?;
            self.log.add(Line::Item(Item {
                is_exact: prepared.is_exact(),
                ..item
            }))?;
            self.bar.inc(1);
        }
        Ok(())
    }

    async fn map(
        &mut self,
        dataset: &Dataset,
        example: &Example,
        prepared: &Prepared,
        is_logged: bool,
    ) -> anyhow::Result<DeviationMap> {
        let map = Examiner(&self.subject.engine).deviation(prepared).await?;
        if is_logged {
            let item = DeviationItem::new(dataset, example, &map);
            self.log.add(Line::Deviation(item))?;
        }
        if self.heat_map.is_none() {
            let heat_map = HeatMap::new(self.subject, dataset, example, prepared, &map, self.specs);
            self.heat_map = Some(heat_map.await?);
        }
        Ok(map)
    }
}
