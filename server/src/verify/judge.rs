//! From a model's probe figures to its verdict: the limits, and which figure broke which. Pure.

use ragweave_engine::{ComputeDtype, KvDtype};
use serde::{Deserialize, Serialize};

use super::policy::{Needles, Outcome};

/// Whether a model's KV can be fused at all, and with the configured policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    /// It can be fused, but the configured policy is not shown to be nearer to full prefill than plain reuse.
    Worse,
    Bad,
}

/// One property that must hold up to rounding, and how far it was off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub name: String,
    pub measured: f64,
    pub tolerance: f64,
}

impl Probe {
    /// A figure that is not a number counts as the largest number: JSON can write neither NaN nor infinity.
    pub(super) fn new(name: &str, measured: f64, tolerance: f64) -> Self {
        Self {
            name: name.to_owned(),
            measured: if measured.is_finite() {
                measured
            } else {
                f64::MAX
            },
            tolerance,
        }
    }

    pub fn passed(&self) -> bool {
        self.measured <= self.tolerance
    }
}

/// The largest differences that rounding alone may cause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    /// Of logits and of attention outputs: the largest difference over the spread of the exact ones.
    pub relative: f64,
    /// Of a row's KV: squared distance over the mean squared norm.
    pub squared: f64,
    /// Of next-token distributions: mean divergence in nats. Two that are closer than this cannot be distinguished.
    pub kl: f64,
}

impl Tolerances {
    /// For KV that is computed in one type and stored in another: the tolerances of the coarser type. About a hundred
    /// roundings of the type, as far as a model of some dozens of layers lets them grow.
    pub fn of(dtype: ComputeDtype, kv_dtype: KvDtype) -> Self {
        let coarse = match (dtype, kv_dtype) {
            (_, KvDtype::Int8) => KvDtype::Int8,
            (ComputeDtype::Bf16, _) | (_, KvDtype::Bf16) => KvDtype::Bf16,
            (ComputeDtype::F16, _) | (_, KvDtype::F16) => KvDtype::F16,
            (ComputeDtype::F32, KvDtype::F32) => KvDtype::F32,
        };
        // A divergence grows with the square of the logits' error; at 1e-4 nats no answer changes, in any type.
        let (relative, squared, kl) = match coarse {
            KvDtype::F32 => (1e-3, 1e-6, 1e-4),
            KvDtype::F16 => (3e-2, 1e-4, 2e-4),
            // A step of int8 is a 127th of the largest value, as one of bf16 is a 128th of each.
            KvDtype::Bf16 | KvDtype::Int8 => (1e-1, 1e-3, 2e-3),
        };
        Self {
            relative,
            squared,
            kl,
        }
    }
}

/// The verdict with its reasons; none for a good one. Without `needles` no policy is judged.
pub fn judge(probes: &[Probe], needles: Option<&Needles>) -> (Verdict, Vec<String>) {
    let failed = probes.iter().filter(|probe| !probe.passed());
    let mut reasons: Vec<String> = failed.map(of_probe).collect();
    let refusal = needles.and_then(|needles| needles.probed.refusal(needles));
    let is_lost = needles.is_some_and(|needles| needles.probed.outcome == Outcome::Lost);
    let verdict = match (reasons.is_empty() && !is_lost, &refusal) {
        (false, _) => Verdict::Bad,
        (true, Some(_)) => Verdict::Worse,
        (true, None) => Verdict::Good,
    };
    reasons.extend(refusal);
    (verdict, reasons)
}

fn of_probe(probe: &Probe) -> String {
    let Probe {
        name,
        measured,
        tolerance,
    } = probe;
    format!("{name}: off by {measured:.2e}, and rounding explains {tolerance:.0e}")
}

#[cfg(test)]
mod tests {
    use super::super::policy::tests;
    use super::*;

    const F32: Tolerances = Tolerances {
        relative: 1e-3,
        squared: 1e-6,
        kl: 1e-4,
    };

    /// Eight prompts under the configured mode, and under reuse, which loses 0.3 nats.
    fn needles(kl: f64, agreeing: usize) -> Needles {
        tests::needles(
            &tests::around(kl, agreeing),
            &tests::around(0.3, 6),
            Vec::new(),
        )
    }

    #[test]
    fn rounding_is_good() {
        let probes = [Probe::new("missed = full", 4e-6, F32.relative)];
        assert_eq!(
            judge(&probes, Some(&needles(0.02, 8))),
            (Verdict::Good, Vec::new())
        );
        assert_eq!(judge(&probes, None).0, Verdict::Good);
    }

    #[test]
    fn rope_at_the_wrong_place_is_caught_and_named() {
        // The effect of placing a chunk without its rotation: K of the right length in the wrong direction.
        let probes = [
            Probe::new("all = full", 4e-6, F32.relative),
            Probe::new("position independence, attention", 0.31, F32.relative),
        ];
        let (verdict, reasons) = judge(&probes, Some(&needles(0.02, 8)));
        assert_eq!(verdict, Verdict::Bad);
        assert_eq!(
            reasons,
            ["position independence, attention: off by 3.10e-1, and rounding explains 1e-3"]
        );
    }

    #[test]
    fn a_figure_that_is_not_a_number_is_bad_and_survives_json() {
        let probe = Probe::new("all = full", f64::NAN, F32.relative);
        assert_eq!(judge(std::slice::from_ref(&probe), None).0, Verdict::Bad);
        let text = serde_json::to_string(&probe).unwrap();
        assert_eq!(serde_json::from_str::<Probe>(&text).unwrap(), probe);
    }

    #[test]
    fn needles_are_lost_only_by_both_measures() {
        assert_eq!(judge(&[], Some(&needles(1.5, 4))).0, Verdict::Worse);
        assert_eq!(judge(&[], Some(&needles(0.9, 1))).0, Verdict::Worse);
        let (verdict, reasons) = judge(&[], Some(&needles(1.5, 3)));
        assert_eq!(verdict, Verdict::Bad);
        assert!(
            reasons[0].contains("1.500 nats") && reasons[0].contains("38 %"),
            "{reasons:?}"
        );
        let (_, reasons) = judge(&[], Some(&needles(1e9, 0)));
        assert!(reasons[0].contains("over 10000 nats"), "{reasons:?}");
    }

    #[test]
    fn a_configured_policy_that_is_not_better_than_reuse_does_not_pass() {
        assert_eq!(
            judge(&[], Some(&needles(0.1, 7))),
            (Verdict::Good, Vec::new())
        );
        let (verdict, reasons) = judge(&[], Some(&needles(0.3, 6)));
        assert_eq!(verdict, Verdict::Worse);
        assert!(
            reasons[0].contains("hkvd@1:0.15 is not shown"),
            "{reasons:?}"
        );
        // The properties that must hold up to rounding come first.
        let probes = [Probe::new("all = full", 0.3, F32.relative)];
        let (verdict, reasons) = judge(&probes, Some(&needles(0.3, 6)));
        assert_eq!((verdict, reasons.len()), (Verdict::Bad, 2));
    }

    #[test]
    fn the_coarser_type_sets_the_tolerance() {
        assert_eq!(Tolerances::of(ComputeDtype::F32, KvDtype::F32), F32);
        let mixed = Tolerances::of(ComputeDtype::F32, KvDtype::F16);
        assert_eq!(mixed, Tolerances::of(ComputeDtype::F16, KvDtype::F16));
        let bf16 = Tolerances::of(ComputeDtype::Bf16, KvDtype::F16);
        assert!(bf16.relative > mixed.relative && bf16.kl > mixed.kl && mixed.kl > F32.kl);
    }
}
