//! Whose KV a store holds: the model, tokenizer and prompt format it was made with.

use std::collections::BTreeMap;
use std::fmt;

/// What the KV of a store was made with, by name. The store itself never looks at the values.
pub type Fields = BTreeMap<String, String>;

/// The model, tokenizer and prompt format that a store's blobs were computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Cryptographic hash over all of them. Stores with equal fingerprints have the same identity.
    pub fingerprint: [u8; 32],
    /// For people, printed in errors; not compared.
    pub description: String,
    /// What the fingerprint is made of, by name, so that an error can say what differs; not compared. A
    /// store keeps them in its marker, where [`crate::stored_fields`] reads them. Empty in version 1.
    pub fields: Fields,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (fingerprint ", self.description)?;
        self.fingerprint[..8]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
