//! What LongBench fixes for each of its subsets: how it is asked, how long answers may be, how
//! they are scored.

use anyhow::Context as _;
use strum::{Display, EnumString, VariantNames};

use super::passages;
use crate::dataset::Task;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Subset {
    #[strum(serialize = "2wikimqa")]
    TwoWikiMqa,
    HotpotQa,
    Musique,
    Samsum,
    #[strum(serialize = "multi_news")]
    MultiNews,
}

impl Subset {
    /// The subset a line's field `dataset` names; an error lists those that can be read.
    pub(super) fn named(name: &str) -> anyhow::Result<Self> {
        let bare = name.strip_suffix("_e").unwrap_or(name);
        bare.parse().ok().with_context(|| {
            let known = Self::VARIANTS.join(", ");
            format!("field `dataset` is `{name}`; the subsets that can be read are {known}")
        })
    }

    /// SAMSum's prompt is full of examples, and a model that copies them goes on with the next
    /// dialogue: LongBench scores the first line.
    pub(super) fn task(self) -> Task {
        match self {
            Self::TwoWikiMqa | Self::HotpotQa | Self::Musique => Task::ShortAnswer,
            Self::Samsum => Task::Summary { first_line: true },
            Self::MultiNews => Task::Summary { first_line: false },
        }
    }

    /// LongBench's `config/dataset2maxlen.json`.
    pub(super) fn max_tokens(self) -> usize {
        match self {
            Self::TwoWikiMqa | Self::HotpotQa | Self::Musique => 32,
            Self::Samsum => 128,
            Self::MultiNews => 512,
        }
    }

    /// From LongBench's `config/dataset2prompt.json`, whose wording this and `question` keep. What
    /// it puts before the context comes after it here, so that documents come first in every prompt.
    pub(super) fn instruction(self) -> Option<&'static str> {
        match self {
            Self::TwoWikiMqa | Self::HotpotQa | Self::Musique => {
                Some("Only give me the answer and do not output any other words.")
            }
            Self::Samsum | Self::MultiNews => None,
        }
    }

    /// What is asked; `None` if a line leaves out what its subset needs.
    pub(super) fn question(self, input: &str) -> Option<String> {
        let input = input.trim();
        match self {
            Self::MultiNews => Some("Write a one-page summary of all the news.".to_owned()),
            _ if input.is_empty() => None,
            // The input ends in "Summary:", where the answer goes on.
            Self::Samsum => Some(format!(
                "Summarize the dialogue into a few short sentences.\n\n{input}"
            )),
            Self::TwoWikiMqa | Self::HotpotQa | Self::Musique => Some(input.to_owned()),
        }
    }

    pub(super) fn documents(self, context: &str) -> Vec<String> {
        match self {
            Self::Samsum => passages::split_dialogues(context),
            Self::TwoWikiMqa | Self::HotpotQa | Self::Musique | Self::MultiNews => {
                passages::split_passages(context)
            }
        }
    }
}
