//! Reads the header of a GGUF file, of unknown length, from start to end. No length in the file is
//! believed: nothing is allocated for more bytes than the file has.

use std::ops::Range;

use fs_err::File;
use fs_err::os::unix::fs::FileExt;

/// The longest header that is read, bytes. A vocabulary of 256k tokens takes 7 MB.
pub(super) const MAX_HEADER_BYTES: u64 = 256 << 20;
/// Bytes read from the file at a time.
const STEP_BYTES: u64 = 1 << 20;

/// A position in the header, with all bytes read so far.
pub(super) struct Cursor<'a> {
    file: &'a File,
    file_bytes: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a File, file_bytes: u64) -> Self {
        Self {
            file,
            file_bytes,
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.at as u64
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// The place of the next `len` bytes, which hold `what`.
    ///
    /// # Errors
    /// A message when the file or the longest header allowed ends before.
    pub(super) fn take(&mut self, len: u64, what: &str) -> Result<Range<usize>, String> {
        let start = self.at;
        let left = self.file_bytes.saturating_sub(start as u64);
        if len > left {
            return Err(format!(
                "truncated or corrupt: {what} at byte {start} would take {len} bytes, the file has \
                 {left} more"
            ));
        }
        let end = start as u64 + len;
        if end > MAX_HEADER_BYTES {
            return Err(format!(
                "{what} at byte {start} would take {len} bytes; metadata may take \
                 {MAX_HEADER_BYTES} bytes in all"
            ));
        }
        self.fill(end)?;
        self.at = end as usize;
        Ok(start..self.at)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let range = self.take(N as u64, what)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length and its bytes.
    pub(super) fn str(&mut self, what: &str) -> Result<&str, String> {
        let len = self.u64(what)?;
        let range = self.take(len, what)?;
        let start = range.start;
        std::str::from_utf8(&self.bytes[range])
            .map_err(|_| format!("corrupt: {what} at byte {start} is not UTF-8"))
    }

    fn fill(&mut self, end: u64) -> Result<(), String> {
        let have = self.bytes.len() as u64;
        if end <= have {
            return Ok(());
        }
        let wanted = end.max(have + STEP_BYTES);
        let wanted = wanted.min(self.file_bytes).min(MAX_HEADER_BYTES);
        self.bytes.resize(wanted as usize, 0);
        self.file
            .read_exact_at(&mut self.bytes[have as usize..], have)
            .map_err(|error| error.to_string())
    }
}
