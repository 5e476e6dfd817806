//! `ragweave-eval index`: the search graph beside exact search, over vectors from a file or a seeded
//! mixture: recall, search times, time to build, write and read it, and memory.

mod made;
mod report;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::ArgGroup;
use ragweave_retriever::{
    Embedding, Filter, GraphStatus, IndexKind, IndexOptions, Scored, VectorIndex,
};

use crate::experiment::{print, threads};
use crate::metric::{mean, percentile};
use crate::vectors::Vectors;
use report::{Report, SearchTimes, Setting};

/// Results of a search, and so many nearest vectors that recall is about.
const TOP_K: usize = 10;
const EMBEDDER: &str = "ragweave-eval index";

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("source").required(true).args(["vectors", "random_mixture"]))]
pub(crate) struct Args {
    /// Vectors, float32 `[rows, dimension]`; the last --queries of them are searched for
    #[arg(long, value_name = "FILE.safetensors")]
    vectors: Option<PathBuf>,
    /// Makes N vectors around N / 100 centres instead
    #[arg(long, value_name = "N")]
    random_mixture: Option<usize>,
    /// Dimension of made vectors
    #[arg(long, value_name = "N", default_value_t = 384)]
    dim: usize,
    /// Seed of made vectors
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Vectors that are searched for, and left out of the index
    #[arg(long, value_name = "N", default_value_t = 1000)]
    queries: usize,
    /// Values of retrieval.hnsw_ef_search to measure
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "32,64,128,256,512"
    )]
    ef: Vec<usize>,
    /// retrieval.hnsw_m
    #[arg(long, value_name = "N", default_value_t = IndexOptions::default().m)]
    m: usize,
    /// retrieval.hnsw_ef_construction
    #[arg(long, value_name = "N", default_value_t = IndexOptions::default().ef_construction)]
    ef_construction: usize,
    /// Threads that build the graph (default: all)
    #[arg(long, value_name = "N", default_value_t = threads())]
    threads: usize,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let report = measure(args)?;
    let text = report.text();
    print(&report, text, args.json)
}

fn measure(args: &Args) -> anyhow::Result<Report> {
    ensure!(
        args.queries > 0 && args.threads > 0,
        "--queries and --threads must be at least 1"
    );
    let rss_before = resident();
    let (source, vectors) = args.vectors()?;
    let dimension = vectors.dimension;
    let n = vectors.rows().len().checked_sub(args.queries);
    let n = n
        .filter(|n| *n > 0)
        .context("there are no more vectors than --queries")?;
    let mut index = VectorIndex::new(args.options());
    for (i, row) in vectors.rows().take(n).enumerate() {
        insert(&mut index, i, row)?;
    }
    let queries: Vec<Embedding> = vectors.rows().skip(n).map(dense).collect();
    drop(vectors);
    let rss_flat = resident();
    let (exact, exact_times) = search_all(&index, &queries)?;
    let build_s = build(&mut index, args.threads)?;
    let rss_graph = resident();
    let mut settings = Vec::new();
    for &ef in &args.ef {
        index.set_ef_search(ef);
        let (found, times) = search_all(&index, &queries)?;
        let recall = recall(&found, &exact);
        settings.push(Setting { ef, recall, times });
    }
    let (dump_s, dump_bytes, load_s) = through_disk(&mut index)?;
    Ok(Report {
        source,
        vectors: n,
        dimension,
        queries: queries.len(),
        m: args.m,
        ef_construction: args.ef_construction,
        build_threads: args.threads,
        cores: threads(),
        exact: exact_times,
        settings,
        build_s,
        dump_s,
        dump_bytes,
        load_s,
        flat_bytes: grown(rss_before, rss_flat),
        graph_bytes: grown(rss_flat, rss_graph),
    })
}

impl Args {
    fn vectors(&self) -> anyhow::Result<(String, Vectors)> {
        match (&self.vectors, self.random_mixture) {
            (Some(path), _) => Ok((path.display().to_string(), Vectors::read(path)?)),
            (None, Some(n)) => {
                ensure!(
                    n > 0 && self.dim > 1,
                    "--random-mixture needs vectors and --dim above 1"
                );
                let source = format!("seeded mixture, seed {}", self.seed);
                Ok((source, made::mixture(n + self.queries, self.dim, self.seed)))
            }
            (None, None) => bail!("give --vectors or --random-mixture"),
        }
    }

    fn options(&self) -> IndexOptions {
        IndexOptions {
            kind: IndexKind::Hnsw,
            m: self.m,
            ef_construction: self.ef_construction,
            ..IndexOptions::default()
        }
    }
}

fn dense(row: &[f32]) -> Embedding {
    Embedding::Dense(row.to_vec())
}

fn insert(index: &mut VectorIndex, i: usize, row: &[f32]) -> anyhow::Result<()> {
    let id = i.to_string();
    let inserted = index.insert(&id, &id, &BTreeMap::new(), dense(row));
    inserted.with_context(|| format!("vector {i}"))
}

/// Results of each query, and how long they took.
fn search_all(
    index: &VectorIndex,
    queries: &[Embedding],
) -> anyhow::Result<(Vec<Vec<Scored>>, SearchTimes)> {
    let (mut found, mut times) = (Vec::new(), Vec::new());
    for query in queries {
        let since = Instant::now();
        found.push(index.search(query, TOP_K, &Filter::default())?);
        times.push(since.elapsed().as_secs_f64() * 1e3);
    }
    let times = SearchTimes {
        p50_ms: percentile(&times, 50.0),
        p99_ms: percentile(&times, 99.0),
    };
    Ok((found, times))
}

/// Mean share of the exact results that were found. A result as good as the last exact one counts,
/// for it may be there instead of another of that score.
fn recall(found: &[Vec<Scored>], exact: &[Vec<Scored>]) -> Option<f64> {
    let share = |(found, exact): (&Vec<Scored>, &Vec<Scored>)| {
        let ids: HashSet<&str> = exact.iter().map(|hit| &*hit.chunk_id).collect();
        let last = exact.last().map_or(f32::INFINITY, |hit| hit.score);
        let is_hit = |hit: &&Scored| ids.contains(&*hit.chunk_id) || hit.score >= last;
        found.iter().filter(is_hit).count() as f64 / exact.len().max(1) as f64
    };
    mean(&found.iter().zip(exact).map(share).collect::<Vec<f64>>())
}

/// Seconds.
fn build(index: &mut VectorIndex, threads: usize) -> anyhow::Result<f64> {
    let since = Instant::now();
    let task = index.graph_task().context("too few vectors for a graph")?;
    let done = task.run(threads, &AtomicBool::new(false));
    drop(index.install(done.context("the build was stopped")?));
    ensure!(
        matches!(index.graph_status(), GraphStatus::Ready { .. }),
        "the graph failed; the log says why"
    );
    Ok(since.elapsed().as_secs_f64())
}

/// Writes the graph and reads it again: seconds, bytes, seconds.
fn through_disk(index: &mut VectorIndex) -> anyhow::Result<(f64, u64, f64)> {
    let dir = tempfile::tempdir()?;
    let since = Instant::now();
    let dump = index.dump(EMBEDDER).context("the graph is not complete")?;
    dump.write(dir.path())?;
    let dump_s = since.elapsed().as_secs_f64();
    drop(dump);
    let files = fs_err::read_dir(dir.path().join("hnsw"))?;
    let sizes = files.map(|file| Ok(file?.metadata()?.len()));
    let bytes = sizes.sum::<std::io::Result<u64>>()?;
    drop(index.forget_graph());
    let since = Instant::now();
    index.restore(dir.path(), EMBEDDER)?;
    Ok((dump_s, bytes, since.elapsed().as_secs_f64()))
}

/// Resident memory of this process in bytes; `None` where Linux does not say.
fn resident() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn grown(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(scores: &[(&str, f32)]) -> Vec<Scored> {
        let scored = |&(id, score): &(&str, f32)| Scored {
            chunk_id: id.to_owned(),
            document_id: id.to_owned(),
            score,
        };
        scores.iter().map(scored).collect()
    }

    #[test]
    fn recall_counts_equal_scores_and_misses() {
        let exact = [hits(&[("a", 0.9), ("b", 0.5)])];
        assert_eq!(
            recall(&[hits(&[("a", 0.9), ("c", 0.5)])], &exact),
            Some(1.0)
        );
        assert_eq!(
            recall(&[hits(&[("a", 0.9), ("c", 0.4)])], &exact),
            Some(0.5)
        );
        assert_eq!(recall(&[hits(&[])], &exact), Some(0.0));
    }

    #[test]
    fn a_small_mixture_is_measured_from_end_to_end() {
        let args = Args {
            vectors: None,
            random_mixture: Some(2_000),
            dim: 16,
            seed: 1,
            queries: 50,
            ef: vec![8, 256],
            m: 8,
            ef_construction: 64,
            threads: 2,
            json: false,
        };
        let report = measure(&args).unwrap();
        assert_eq!((report.vectors, report.queries), (2_000, 50));
        let [low, high] = &report.settings[..] else {
            panic!("{:?}", report.settings)
        };
        assert!(
            high.recall >= low.recall && high.recall > Some(0.95),
            "{report:?}"
        );
        assert!(report.dump_bytes > 2_000 * 32);
        assert!(report.text().contains("seeded mixture, seed 1"));
    }
}
