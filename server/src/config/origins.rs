//! The origin of each value of a configuration, kept after merging: some values can be checked only once the model is
//! read.

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

    /// The name of the layer that sets the key.
    pub(super) fn of_key(&self, key: &str) -> &str {
        self.0.get(key).map_or("configuration", String::as_str)
    }
}
