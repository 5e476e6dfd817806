//! What names a mode in the rows of a summary.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::mode_spec::ModeSpec;
use crate::table::number;

/// Mode, policy and ratio. `policy` is the spec without its ratio: `hkvd@2`, or `full`, `reuse`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModeLabel {
    #[serde(default)]
    mode: Cow<'static, str>,
    pub(crate) policy: String,
    pub(crate) ratio: Option<f64>,
}

impl ModeLabel {
    pub(crate) fn of(spec: &ModeSpec) -> Self {
        let text = spec.to_string();
        let policy = text.rsplit_once(':').map_or(&*text, |(policy, _)| policy);
        let fields = spec.fields();
        Self {
            mode: fields.mode.into(),
            policy: policy.to_owned(),
            ratio: fields.ratio,
        }
    }

    /// Cells under [`ModeLabel::HEADER`].
    pub(crate) fn cells(&self) -> [String; 2] {
        [self.policy.clone(), number(self.ratio, 2)]
    }

    pub(crate) const HEADER: [&'static str; 2] = ["mode", "ratio"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_its_spec_without_the_ratio() {
        let label = |spec: &str| ModeLabel::of(&spec.parse().unwrap());
        let blend = ModeLabel {
            mode: "blend".into(),
            policy: "hkvd@2/gradual".to_owned(),
            ratio: Some(0.1),
        };
        assert_eq!(label("hkvd@2/gradual:0.1"), blend);
        for name in ["full", "reuse"] {
            let label = label(name);
            assert_eq!(
                (&*label.mode, &*label.policy, label.ratio),
                (name, name, None)
            );
        }
    }
}
