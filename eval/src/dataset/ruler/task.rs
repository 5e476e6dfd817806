//! The tasks of the suite and their names.

use strum::{Display, EnumString, VariantArray};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, VariantArray)]
#[strum(serialize_all = "lowercase")]
#[strum(parse_err_ty = UnknownRulerTask, parse_err_fn = UnknownRulerTask::named)]
pub enum RulerTask {
    /// Four keys with a value each; one is asked for.
    MultiKey,
    /// One key with four values; all are asked for.
    MultiValue,
    /// Four keys with a value each; all are asked for.
    MultiQuery,
    /// A value passed on from variable to variable; all that hold it are asked for.
    #[strum(serialize = "vt")]
    VariableTracking,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown RULER task `{0}`: known are multikey, multivalue, multiquery and vt")]
pub struct UnknownRulerTask(String);

impl UnknownRulerTask {
    fn named(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl RulerTask {
    /// The longest answer in tokens, as in the paper's repository.
    pub(super) fn max_tokens(self) -> usize {
        match self {
            Self::MultiKey | Self::MultiValue | Self::MultiQuery => 128,
            Self::VariableTracking => 30,
        }
    }
}
