//! Bytes of metadata values: little-endian, with length-prefixed strings and lists. A decoder that
//! runs out of bytes returns `None`, and no allocation uses an unchecked length.

use std::collections::BTreeMap;

/// Builds a value.
#[derive(Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn array(mut self, bytes: &[u8; 32]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut encoder = self.u64(bytes.len() as u64);
        encoder.0.extend_from_slice(bytes);
        encoder
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn ids(self, ids: &[u32]) -> Self {
        let mut encoder = self.u64(ids.len() as u64);
        encoder.0.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        encoder
    }

    pub(super) fn map(self, map: &BTreeMap<String, String>) -> Self {
        let encoder = self.u64(map.len() as u64);
        map.iter().fold(encoder, |encoder, (name, value)| {
            encoder.text(name).text(value)
        })
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a value from front to back.
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(self.u64()?).ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn array(&mut self) -> Option<[u8; 32]> {
        self.take(32)?.try_into().ok()
    }

    pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = self.len()?;
        Some(self.take(len)?.to_vec())
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn ids(&mut self) -> Option<Vec<u32>> {
        let len = self.len()?.checked_mul(4)?;
        let (words, _) = self.take(len)?.as_chunks::<4>();
        Some(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    pub(super) fn map(&mut self) -> Option<BTreeMap<String, String>> {
        let len = self.len()?;
        (0..len)
            .map(|_| Some((self.text()?, self.text()?)))
            .collect()
    }

    /// `value`; `None` if bytes are left over.
    pub(super) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}
