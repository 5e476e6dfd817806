//! Which chunks a search may find.

use std::collections::{BTreeMap, BTreeSet};

/// Which chunks may be found; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Each of these must be in the metadata of the document, with an equal value.
    pub metadata: BTreeMap<String, String>,
    /// If given, the document must be one of these.
    pub document_ids: Option<BTreeSet<String>>,
}

impl Filter {
    /// Whether the chunks of this document may be found.
    pub fn passes(&self, document_id: &str, metadata: &BTreeMap<String, String>) -> bool {
        let wanted = |ids: &BTreeSet<String>| ids.contains(document_id);
        self.document_ids.as_ref().is_none_or(wanted)
            && self
                .metadata
                .iter()
                .all(|(key, value)| metadata.get(key) == Some(value))
    }

    /// Whether every chunk passes.
    pub(super) fn is_open(&self) -> bool {
        self.metadata.is_empty() && self.document_ids.is_none()
    }
}
