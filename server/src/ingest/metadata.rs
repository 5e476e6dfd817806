//! Limits on a document's metadata, which every source of an answer carries.

use std::collections::BTreeMap;

/// Most entries of a document's metadata.
const MAX_ENTRIES: usize = 256;
/// Longest key of an entry.
const MAX_KEY_BYTES: usize = 256;
/// Characters of a key that are shown in an error.
const SHOWN_CHARS: usize = 64;

/// Why a document's metadata is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMetadata {
    #[error(
        "the metadata has {bytes} bytes, {of_largest} of them in {largest:?}, more than limits.max_metadata_bytes \
         ({limit}); move long values into the text, or raise the limit"
    )]
    TooLarge {
        bytes: usize,
        limit: usize,
        /// Key of the largest entry.
        largest: String,
        of_largest: usize,
    },
    #[error("the metadata has {entries} entries, the limit is {MAX_ENTRIES}")]
    TooMany { entries: usize },
    #[error("the metadata key {key:?} has {bytes} bytes, the limit is {MAX_KEY_BYTES}")]
    LongKey { key: String, bytes: usize },
}

/// Checks the metadata against its limits; `limit` is the largest size in bytes.
pub(super) fn check_metadata(
    metadata: &BTreeMap<String, String>,
    limit: usize,
) -> Result<(), BadMetadata> {
    let entries = metadata.len();
    if entries > MAX_ENTRIES {
        return Err(BadMetadata::TooMany { entries });
    }
    if let Some(key) = metadata.keys().find(|key| key.len() > MAX_KEY_BYTES) {
        let (key, bytes) = (shown(key), key.len());
        return Err(BadMetadata::LongKey { key, bytes });
    }
    let size = |(key, value): &(&String, &String)| key.len() + value.len();
    let bytes: usize = metadata.iter().map(|entry| size(&entry)).sum();
    let largest = metadata.iter().max_by_key(size);
    match largest {
        Some(entry) if bytes > limit => Err(BadMetadata::TooLarge {
            bytes,
            limit,
            largest: shown(entry.0),
            of_largest: size(&entry),
        }),
        _ => Ok(()),
    }
}

fn shown(key: &str) -> String {
    key.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(metadata: &[(String, String)]) -> String {
        let metadata = metadata.iter().cloned().collect();
        check_metadata(&metadata, 1000).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn metadata_is_limited_in_bytes_entries_and_length_of_keys() {
        let entry = |key: &str, bytes: usize| (key.to_owned(), "x".repeat(bytes));
        let entries = |n: usize| (0..n).map(|i| entry(&i.to_string(), 0)).collect::<Vec<_>>();
        assert_eq!(refusal(&[]), "");
        assert_eq!(refusal(&[entry("a", 99), entry("big", 897)]), "");
        assert_eq!(refusal(&[entry("", 5)]), "");
        assert_eq!(refusal(&entries(256)), "");
        let large = refusal(&[entry("a", 99), entry("big", 898)]);
        assert!(
            large.contains("1001 bytes, 901 of them in \"big\""),
            "{large}"
        );
        assert!(
            large.contains("limits.max_metadata_bytes (1000)"),
            "{large}"
        );
        assert!(refusal(&entries(257)).contains("257 entries, the limit is 256"));
        let long = refusal(&[entry(&"k".repeat(257), 1)]);
        assert!(
            long.contains("257 bytes, the limit is 256") && long.len() < 200,
            "{long}"
        );
    }
}
