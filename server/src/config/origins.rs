//! Where each value of a configuration comes from, kept after merging: whether a value fits is sometimes known only
//! once the model is read.

use std::collections::BTreeMap;

use figment::Figment;

use super::keys;

/// The name of a layer for every key that is set.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(BTreeMap<&'static str, String>);

impl Origins {
    pub(super) fn of(merged: &Figment) -> Self {
        let origin = |key: &'static str| {
            let metadata = merged.find_metadata(key)?;
            Some((key, metadata.name.to_string()))
        };
        Self(keys::all_keys().filter_map(origin).collect())
    }

    /// The layer that sets the key, in words.
    pub(super) fn of_key(&self, key: &str) -> &str {
        self.0.get(key).map_or("configuration", String::as_str)
    }
}
