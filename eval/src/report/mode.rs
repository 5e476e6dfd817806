//! A mode as rows name it: a policy's spec without its ratio, and the ratio.

use std::fmt;

use crate::{decay, load, quality, ttft};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModeName {
    /// `hkvd@2`, `full`, `reuse`.
    pub(crate) policy: String,
    /// Absent for `full`, `reuse` and `all`.
    pub(crate) ratio: Option<f64>,
}

impl ModeName {
    /// The policy `all` recomputes every row whatever ratio its row gives, so it has none.
    pub(crate) fn new(policy: &str, ratio: Option<f64>) -> Self {
        Self {
            policy: policy.to_owned(),
            ratio: ratio.filter(|_| policy != "all"),
        }
    }

    /// From a spec such as `hkvd@2:0.15`.
    pub(crate) fn parse(spec: &str) -> Self {
        let parts = spec.rsplit_once(':');
        let parsed = parts.and_then(|(policy, ratio)| Some((policy, ratio.parse().ok()?)));
        parsed.map_or_else(
            || Self::new(spec, None),
            |(policy, ratio)| Self::new(policy, Some(ratio)),
        )
    }
}

impl fmt::Display for ModeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.policy)?;
        self.ratio.map_or(Ok(()), |ratio| write!(f, ":{ratio}"))
    }
}

/// A row that measures one mode.
pub(crate) trait OfMode {
    fn mode(&self) -> ModeName;
}

macro_rules! of_mode {
    ($($row:ty: $policy:ident $(. $field:ident)?),* $(,)?) => {$(
        impl OfMode for $row {
            fn mode(&self) -> ModeName {
                of_mode!(@ self $policy $(. $field)?)
            }
        }
    )*};
    (@ $row:ident label) => { ModeName::new(&$row.label.policy, $row.label.ratio) };
    (@ $row:ident policy) => { ModeName::new(&$row.policy, $row.ratio) };
}
of_mode!(
    quality::row::Row: policy,
    quality::times::TimesRow: policy,
    ttft::report::Row: label,
    load::report::Row: label,
    decay::flatness::Row: label,
    decay::flatness::Flatness: label,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_without_a_choice_of_rows_have_no_ratio() {
        assert_eq!(
            ModeName::new("hkvd@2", Some(0.15)).to_string(),
            "hkvd@2:0.15"
        );
        assert_eq!(ModeName::new("all", Some(1.0)).to_string(), "all");
    }

    #[test]
    fn the_ratio_of_a_spec_follows_its_last_colon() {
        assert_eq!(
            ModeName::parse("hkvd@2:0.15"),
            ModeName::new("hkvd@2", Some(0.15))
        );
        assert_eq!(ModeName::parse("full"), ModeName::new("full", None));
    }
}
