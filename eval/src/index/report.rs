//! What `index` prints.

use serde::Serialize;

use crate::experiment::table;
use crate::table::number;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) source: String,
    /// In the index, without the queries.
    pub(super) vectors: usize,
    pub(super) dimension: usize,
    pub(super) queries: usize,
    pub(super) m: usize,
    pub(super) ef_construction: usize,
    pub(super) build_threads: usize,
    /// Logical processors, which exact search uses.
    pub(super) cores: usize,
    pub(super) exact: SearchTimes,
    pub(super) settings: Vec<Setting>,
    pub(super) build_s: f64,
    pub(super) dump_s: f64,
    pub(super) dump_bytes: u64,
    /// Verified and read.
    pub(super) load_s: f64,
    /// Resident memory of the index without the graph, less what freed input left.
    pub(super) flat_bytes: Option<u64>,
    /// Resident memory that the graph added.
    pub(super) graph_bytes: Option<u64>,
}

/// Of one search at a time.
#[derive(Debug, Serialize)]
pub(super) struct SearchTimes {
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// The graph at one `ef_search`.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    pub(super) ef: usize,
    /// Recall at 10.
    pub(super) recall: Option<f64>,
    pub(super) times: SearchTimes,
}

impl Report {
    pub(super) fn text(&self) -> String {
        let rows = table(
            &self.settings,
            &[
                ("ef", |row| row.ef.to_string()),
                ("recall@10", |row| number(row.recall, 4)),
                ("p50 ms", |row| number(row.times.p50_ms, 3)),
                ("p99 ms", |row| number(row.times.p99_ms, 3)),
            ],
        );
        let mib = |bytes: Option<u64>| number(bytes.map(|bytes| bytes as f64 / 1048576.0), 0);
        format!(
            "{} vectors of {} numbers ({}), {} queries, {} processors\n\
             exact: p50 {} ms, p99 {} ms; {} MiB\n\
             graph: m {}, ef_construction {}; {} MiB; built in {:.1} s on {} threads, written in \
             {:.1} s ({} MiB), read in {:.1} s\n\n{rows}",
            self.vectors,
            self.dimension,
            self.source,
            self.queries,
            self.cores,
            number(self.exact.p50_ms, 3),
            number(self.exact.p99_ms, 3),
            mib(self.flat_bytes),
            self.m,
            self.ef_construction,
            mib(self.graph_bytes),
            self.build_s,
            self.build_threads,
            self.dump_s,
            mib(Some(self.dump_bytes)),
            self.load_s,
        )
    }
}
