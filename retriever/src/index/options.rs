//! How dense vectors are searched, and the bounds of the graph's parameters.

use std::ops::RangeInclusive;

use serde::Deserialize;

/// Whether an index of dense vectors builds a graph for approximate search. Sparse vectors never
/// have one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexKind {
    /// From [`IndexOptions::hnsw_threshold`] chunks on.
    #[default]
    Auto,
    /// Never: every search is exact.
    Flat,
    /// At any size.
    Hnsw,
}

/// Settings of a [`VectorIndex`](super::VectorIndex).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexOptions {
    /// When there is a graph.
    pub kind: IndexKind,
    /// Least number of chunks for which [`IndexKind::Auto`] builds one.
    pub hnsw_threshold: usize,
    /// Links of a vector in the upper layers; twice as many in the lowest (M in arXiv 1603.09320).
    pub m: usize,
    /// Candidates kept while a vector's links are chosen.
    pub ef_construction: usize,
    /// Candidates kept during a search. More find more, and take longer.
    pub ef_search: usize,
}

impl IndexOptions {
    /// Values that `m` may have. `hnsw_rs` ends the process above 256, and dumps one byte.
    pub const M: RangeInclusive<usize> = 4..=64;
    /// Values that `ef_construction` may have.
    pub const EF_CONSTRUCTION: RangeInclusive<usize> = 8..=2000;
    /// Values that `ef_search` may have.
    pub const EF_SEARCH: RangeInclusive<usize> = 8..=10_000;

    /// The same settings with the graph's parameters moved into their bounds.
    pub(super) fn clamped(self) -> Self {
        let within =
            |value: usize, range: RangeInclusive<usize>| value.clamp(*range.start(), *range.end());
        Self {
            m: within(self.m, Self::M),
            ef_construction: within(self.ef_construction, Self::EF_CONSTRUCTION),
            ef_search: within(self.ef_search, Self::EF_SEARCH),
            ..self
        }
    }

    /// Whether an index of `n` dense vectors should have a graph.
    pub(super) fn wants_graph(&self, n: usize) -> bool {
        match self.kind {
            IndexKind::Auto => n >= self.hnsw_threshold,
            IndexKind::Flat => false,
            IndexKind::Hnsw => true,
        }
    }
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            kind: IndexKind::Auto,
            hnsw_threshold: 100_000,
            m: 16,
            ef_construction: 200,
            ef_search: 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_would_end_the_process_are_moved_into_their_bounds() {
        let wild = IndexOptions {
            m: 300,
            ef_construction: 0,
            ef_search: usize::MAX,
            ..IndexOptions::default()
        };
        let tame = wild.clamped();
        assert_eq!(
            (tame.m, tame.ef_construction, tame.ef_search),
            (64, 8, 10_000)
        );
        assert_eq!(IndexOptions::default().clamped(), IndexOptions::default());
    }

    #[test]
    fn auto_waits_for_the_threshold() {
        let of = |kind| IndexOptions {
            kind,
            hnsw_threshold: 10,
            ..IndexOptions::default()
        };
        assert!(!of(IndexKind::Auto).wants_graph(9) && of(IndexKind::Auto).wants_graph(10));
        assert!(!of(IndexKind::Flat).wants_graph(1_000_000) && of(IndexKind::Hnsw).wants_graph(1));
    }
}
