//! Examples laid out as serving would: the same segmentation, chunks cut by the same splitter.

use anyhow::ensure;

use super::library::Library;
use crate::dataset::{Dataset, Example};
use crate::examiner::Prepared;
use crate::subject::Subject;

pub(crate) struct Layout<'a> {
    subject: &'a Subject,
    library: Library<'a>,
    instruction: Option<&'a str>,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(
        subject: &'a Subject,
        dataset: &'a Dataset,
        neighbours: usize,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            subject,
            library: Library::new(subject, dataset, neighbours)?,
            instruction: dataset.instruction.as_deref(),
        })
    }

    /// Lays an example out; chunks at its end that do not fit the model are dropped and logged.
    pub(crate) async fn prepare(&mut self, example: &Example) -> anyhow::Result<Prepared> {
        let question = match self.instruction {
            Some(instruction) => format!("{} {instruction}", example.question),
            None => example.question.clone(),
        };
        let mut segments = self.subject.prompt.segments(None, &[], &question)?;
        let limit = self.subject.model().max_model_len;
        let mut room = limit.saturating_sub(segments.n_tokens() + example.max_tokens);
        ensure!(
            room > 0,
            "question and answer alone are longer than the model's {limit} tokens"
        );
        let (mut kvs, mut dropped) = (Vec::new(), 0);
        for document in &example.documents {
            for (text, ids) in self.subject.chunks(document)? {
                if dropped > 0 || ids.len() > room {
                    dropped += 1;
                    continue;
                }
                room -= ids.len();
                kvs.push(self.library.kv(text, &ids).await?);
                segments.chunks.push(ids);
            }
        }
        if dropped > 0 {
            let id = &example.id;
            tracing::warn!(id, dropped, "chunks at the end do not fit the model");
        }
        let identity = &self.subject.model().identity;
        Ok(Prepared {
            segments,
            kvs,
            first_is_exact: self.library.is_alone() && identity.is_exact_dtype(),
            max_tokens: example.max_tokens,
        })
    }
}
