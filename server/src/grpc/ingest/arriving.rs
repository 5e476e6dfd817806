//! A document whose parts are still arriving. A mistake in its header or its parts affects this document only; the
//! stream continues.

use std::time::Instant;

use ragweave_proto::v1;
use ragweave_retriever::{DocumentFormat, SourceDocument};

use crate::grpc::convert;
use crate::ingest::{IngestError, IngestOptions};
use crate::problem::Problem;

/// Largest text part. Clients split texts at this size, so that one message need not hold a whole document.
pub(crate) const MAX_PART_BYTES: usize = 1 << 20;

/// The part of a document that has arrived so far.
pub(super) struct Arriving {
    document: SourceDocument,
    options: IngestOptions,
    /// When its first part arrived.
    since: Instant,
    /// All bytes received so far, including those beyond the limit, which are not kept.
    bytes: usize,
    /// Why it will not be ingested. Once set, no further parts are kept.
    refused: Option<Problem>,
}

impl Arriving {
    pub(super) fn new(header: v1::DocumentHeader) -> Self {
        let (format, refused) = match convert::document_format(header.format) {
            Ok(format) => (format, None),
            Err(unknown) => (DocumentFormat::Text, Some(unknown.into())),
        };
        let document = SourceDocument {
            id: header.id,
            text: String::new(),
            metadata: header.metadata.into_iter().collect(),
            format,
        };
        let options = IngestOptions {
            no_kv: header.skip_kv.unwrap_or(false),
        };
        Self {
            document,
            options,
            since: Instant::now(),
            bytes: 0,
            refused,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.document.id
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Adds a part, as long as the document may still be ingested.
    pub(super) fn take(&mut self, text: &str, max_bytes: usize) {
        let n_bytes = text.len();
        if n_bytes > MAX_PART_BYTES {
            let message = format!("a part has {n_bytes} bytes, the limit is {MAX_PART_BYTES}");
            self.refused
                .get_or_insert_with(|| Problem::invalid("text", message));
        }
        self.bytes = self.bytes.saturating_add(n_bytes);
        if self.refused.is_some() || self.bytes > max_bytes {
            self.document.text = String::new();
        } else {
            self.document.text.push_str(text);
        }
    }

    /// The whole document, after its last part has arrived.
    ///
    /// # Errors
    /// A mistake in its header or its parts.
    pub(super) fn complete(
        self,
        max_bytes: usize,
    ) -> Result<(SourceDocument, IngestOptions), Problem> {
        if let Some(problem) = self.refused {
            return Err(problem);
        }
        if self.bytes > max_bytes {
            let (bytes, limit) = (self.bytes, max_bytes);
            return Err(IngestError::TooLarge { bytes, limit }.into());
        }
        Ok((self.document, self.options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(format: i32) -> Arriving {
        Arriving::new(v1::DocumentHeader {
            id: "a".to_owned(),
            format: Some(format),
            ..Default::default()
        })
    }

    #[test]
    fn parts_add_up_and_what_is_too_large_is_counted_but_not_kept() {
        let mut document = arriving(1);
        document.take("ab", 4);
        document.take("cd", 4);
        assert_eq!(document.document.text, "abcd");
        document.take("e", 4);
        assert_eq!(document.document.text, "");
        let problem = document.complete(4).unwrap_err();
        assert!(
            problem.message.contains("has 5 bytes"),
            "{}",
            problem.message
        );
    }

    #[test]
    fn a_mistake_is_reported_when_the_document_is_complete() {
        let mut unknown = arriving(7);
        unknown.take("text", 10);
        assert_eq!(
            unknown.complete(10).unwrap_err().field.as_deref(),
            Some("header.format")
        );
        let mut long = arriving(1);
        long.take(&"x".repeat(MAX_PART_BYTES + 1), usize::MAX);
        long.take("more", usize::MAX);
        assert_eq!(
            long.complete(usize::MAX).unwrap_err().field.as_deref(),
            Some("text")
        );
    }
}
