//! `kv_dtype`: the stored type of chunk KV, `auto` by default.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ragweave_engine::{ComputeDtype, KvDtype};
use ragweave_store::stored_fields;

/// The field of a store's identity that names the type.
pub const KV_DTYPE_FIELD: &str = "kv_dtype";
/// What `auto` is in a new data directory: the smallest type. On a real model its rounding costs a hundredth of what
/// plain reuse loses (`docs/results/kv-dtype.md`).
pub const DEFAULT_KV_DTYPE: KvDtype = KvDtype::Int8;

const AUTO: &str = "auto";

/// The setting as it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KvDtypeSetting {
    /// The type of the store in the data directory or, if there is none yet, [`DEFAULT_KV_DTYPE`].
    #[default]
    Auto,
    Fixed(KvDtype),
}

impl KvDtypeSetting {
    /// The type to use in the data directory `data`, which is empty if there is none.
    pub fn resolve(self, data: &Path, dtype: ComputeDtype) -> KvDtype {
        match self {
            Self::Fixed(kv_dtype) => kv_dtype,
            Self::Auto if data.as_os_str().is_empty() => DEFAULT_KV_DTYPE,
            Self::Auto => stored(data, dtype).unwrap_or(DEFAULT_KV_DTYPE),
        }
    }
}

/// The type that the store in `data` was made with. `None` if there is no store, and if it cannot be read: opening
/// it says why.
fn stored(data: &Path, dtype: ComputeDtype) -> Option<KvDtype> {
    let fields = stored_fields(data).ok()??;
    match fields.get(KV_DTYPE_FIELD) {
        Some(name) => name.parse().ok(),
        // The default of the version that made it.
        None => Some(KvDtype::exact(dtype)),
    }
}

impl fmt::Display for KvDtypeSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Fixed(kv_dtype) => kv_dtype.fmt(f),
        }
    }
}

impl FromStr for KvDtypeSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == AUTO {
            return Ok(Self::Auto);
        }
        let fixed = KvDtype::ALL.into_iter().find(|one| one.to_string() == text);
        fixed.map(Self::Fixed).ok_or_else(|| {
            let names = KvDtype::ALL.map(|one| one.to_string()).join(", ");
            format!("`{text}` is not one of {AUTO}, {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_read_as_it_is_written() {
        let fixed = KvDtype::ALL.map(KvDtypeSetting::Fixed);
        for setting in fixed.into_iter().chain([KvDtypeSetting::Auto]) {
            assert_eq!(setting.to_string().parse(), Ok(setting));
        }
        assert_eq!(
            "int4".parse::<KvDtypeSetting>().unwrap_err(),
            "`int4` is not one of auto, f32, f16, bf16, int8"
        );
    }

    #[test]
    fn auto_is_the_type_of_the_store_and_a_fixed_type_is_itself() {
        let dir = tempfile::tempdir().unwrap();
        let auto = |dtype| KvDtypeSetting::Auto.resolve(dir.path(), dtype);
        assert_eq!(
            auto(ComputeDtype::F32),
            DEFAULT_KV_DTYPE,
            "there is no store"
        );
        let marker = |text: &str| fs_err::write(dir.path().join("FORMAT"), text).unwrap();
        marker("ragweave-store 2\nkv_dtype = f16\n");
        assert_eq!(auto(ComputeDtype::F32), KvDtype::F16);
        marker("ragweave-store 1\n");
        assert_eq!(
            auto(ComputeDtype::Bf16),
            KvDtype::Bf16,
            "the former default"
        );
        marker("ragweave-store 99\n");
        assert_eq!(
            auto(ComputeDtype::F32),
            DEFAULT_KV_DTYPE,
            "opening it fails"
        );
        let fixed = KvDtypeSetting::Fixed(KvDtype::F32);
        marker("ragweave-store 2\nkv_dtype = f16\n");
        assert_eq!(fixed.resolve(dir.path(), ComputeDtype::F32), KvDtype::F32);
    }
}
