//! Rotary position settings: what `config.json` may say (both transformers layouts) and the
//! inverse frequencies that follow. Only types whose frequencies do not depend on the length of
//! the prompt are accepted, because K is stored before RoPE and placed at any position later.

use std::f64::consts::PI;

use super::architecture::Architecture;
use super::fields::Fields;
use crate::error::EngineError;

/// The base of the rotary frequencies if a config gives none.
const DEFAULT_THETA: f64 = 10_000.0;
/// The same for Gemma 3's layers that see all of the prompt.
const GEMMA3_THETA: f64 = 1_000_000.0;
/// Which of Gemma 3's two settings is that of layers with a window.
pub(super) const GEMMA3_WINDOW_ROPE: usize = 1;

/// Rotary position embedding of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    pub scaling: RopeScaling,
}

/// How the frequencies are stretched for contexts longer than the model was trained on.
/// Names and meaning are those of transformers' `modeling_rope_utils`.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    Default,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
    Yarn {
        factor: f64,
        original_max_position_embeddings: usize,
        /// Multiplies cos and sin; computed from `factor` and the mscales when `None`.
        attention_factor: Option<f64>,
        beta_fast: f64,
        beta_slow: f64,
        mscale: Option<f64>,
        mscale_all_dim: Option<f64>,
        /// Whether the borders of the ramp are rounded to whole dimensions.
        truncate: bool,
    },
}

/// Inverse frequency of each rotated pair, as transformers computes it in f32.
///
/// # Shapes
/// Returns `[head_dim / 2]`; the angle of pair `i` at position `p` is `p * inv_freq[i]`.
#[must_use]
pub fn inv_freq(rope: &RopeConfig, head_dim: usize) -> Vec<f32> {
    let base: Vec<f32> = (0..head_dim / 2)
        .map(|pair| 1.0 / position_frequency(rope.theta, pair, head_dim))
        .collect();
    match &rope.scaling {
        RopeScaling::Default => base,
        RopeScaling::Linear { factor } => base.iter().map(|f| f / *factor as f32).collect(),
        RopeScaling::Llama3 { .. } => base
            .iter()
            .map(|f| llama3_frequency(*f, &rope.scaling))
            .collect(),
        RopeScaling::Yarn { .. } => yarn_frequencies(rope, head_dim),
    }
}

/// The factor on cos and sin: 1 for every type except YaRN.
#[must_use]
pub fn attention_factor(rope: &RopeConfig) -> f32 {
    let RopeScaling::Yarn {
        factor,
        attention_factor,
        mscale,
        mscale_all_dim,
        ..
    } = rope.scaling
    else {
        return 1.0;
    };
    if let Some(given) = attention_factor {
        return given as f32;
    }
    let mscaled = |mscale: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * mscale * factor.ln() + 1.0
        }
    };
    // A zero counts as "not given", as in Python.
    match (
        mscale.filter(|m| *m != 0.0),
        mscale_all_dim.filter(|m| *m != 0.0),
    ) {
        (Some(mscale), Some(all_dim)) => (mscaled(mscale) / mscaled(all_dim)) as f32,
        _ => mscaled(1.0) as f32,
    }
}

/// `theta ^ (2 * pair / head_dim)`. The exponent is rounded to f32 as torch does; the power is
/// taken in f64 and rounded once, which is what a correctly rounded f32 power would give.
fn position_frequency(theta: f64, pair: usize, head_dim: usize) -> f32 {
    let exponent = (2 * pair) as f32 / head_dim as f32;
    f64::from(theta as f32).powf(f64::from(exponent)) as f32
}

/// Keeps short wavelengths, divides long ones by the factor and blends linearly between.
fn llama3_frequency(frequency: f32, scaling: &RopeScaling) -> f32 {
    let RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings,
    } = *scaling
    else {
        return frequency;
    };
    let old_context = original_max_position_embeddings as f64;
    let wavelength = (2.0 * PI) as f32 / frequency;
    if wavelength > (old_context / low_freq_factor) as f32 {
        return frequency / factor as f32;
    }
    if wavelength < (old_context / high_freq_factor) as f32 {
        return frequency;
    }
    let smooth = (old_context as f32 / wavelength - low_freq_factor as f32)
        / (high_freq_factor - low_freq_factor) as f32;
    (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
}

/// YaRN: fast dimensions keep their frequency, slow ones are divided by the factor, with a linear
/// ramp between the dimensions that turn `beta_fast` and `beta_slow` times in the old context.
fn yarn_frequencies(rope: &RopeConfig, head_dim: usize) -> Vec<f32> {
    let RopeScaling::Yarn {
        factor,
        original_max_position_embeddings,
        beta_fast,
        beta_slow,
        truncate,
        ..
    } = rope.scaling
    else {
        return Vec::new();
    };
    let dim = head_dim as f64;
    let correction_dim = |rotations: f64| {
        let turns = original_max_position_embeddings as f64 / (rotations * 2.0 * PI);
        dim * turns.ln() / (2.0 * rope.theta.ln())
    };
    let (mut low, mut high) = (correction_dim(beta_fast), correction_dim(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001; // avoids a division by zero below
    }
    (0..head_dim / 2)
        .map(|pair| {
            let frequency = position_frequency(rope.theta, pair, head_dim);
            let ramp = ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let extrapolated = 1.0 - ramp;
            1.0 / (factor as f32 * frequency) * (1.0 - extrapolated)
                + 1.0 / frequency * extrapolated
        })
        .collect()
}

/// The RoPE settings that layers choose from: one, except for Gemma 3, whose layers with a window have a second.
pub(super) fn settings(
    config: Fields<'_>,
    architecture: Architecture,
    max_position_embeddings: usize,
) -> Result<Vec<RopeConfig>, EngineError> {
    let length = max_position_embeddings;
    if architecture != Architecture::Gemma3 {
        return Ok(vec![RopeConfig::from_fields(config, length)?]);
    }
    let [full, windowed] = per_layer_type(config)?;
    let full = RopeFields::new(config, full);
    let windowed = RopeFields::new(config, windowed);
    Ok(vec![
        full.read("rope_theta", GEMMA3_THETA, length)?,
        windowed.read("rope_local_base_freq", DEFAULT_THETA, length)?,
    ])
}

/// The objects for layers that see all of the prompt and for layers with a window. `rope_scaling` of transformers 4 is
/// for the former.
fn per_layer_type(config: Fields<'_>) -> Result<[Option<Fields<'_>>; 2], EngineError> {
    const BOTH: &str = "rope_parameters";
    let scaling = scaling_object(config)?;
    let Some(both) = config.object(BOTH)?.filter(|object| !object.is_empty()) else {
        return Ok([scaling, None]);
    };
    if scaling.is_some() {
        return Err(config.refuse(
            "rope_scaling",
            "stands beside rope_parameters; keep one of them",
        ));
    }
    let objects = [
        both.object("full_attention")?,
        both.object("sliding_attention")?,
    ];
    match objects {
        [None, None] => Err(config.refuse(
            BOTH,
            "must hold full_attention and sliding_attention, as transformers 5 writes them for this family",
        )),
        objects => Ok(objects),
    }
}

/// A `rope_scaling` that says something.
fn scaling_object(config: Fields<'_>) -> Result<Option<Fields<'_>>, EngineError> {
    let scaling = config.object("rope_scaling")?;
    Ok(scaling.filter(|object| !object.is_empty()))
}

impl RopeConfig {
    /// Reads `rope_scaling` + `rope_theta` (transformers 4) or `rope_parameters` (5).
    ///
    /// As in transformers, a non-empty `rope_scaling` takes precedence over `rope_parameters`, and a
    /// `rope_theta` inside the object over one beside it.
    fn from_fields(
        config: Fields<'_>,
        max_position_embeddings: usize,
    ) -> Result<Self, EngineError> {
        let object = match scaling_object(config)? {
            Some(object) => Some(object),
            None => config.object("rope_parameters")?,
        };
        RopeFields::new(config, object).read("rope_theta", DEFAULT_THETA, max_position_embeddings)
    }
}

/// The object that describes RoPE, and the config around it.
struct RopeFields<'a> {
    /// `config` itself if the file has no such object.
    object: Fields<'a>,
    config: Fields<'a>,
    has_object: bool,
}

impl<'a> RopeFields<'a> {
    fn new(config: Fields<'a>, object: Option<Fields<'a>>) -> Self {
        Self {
            object: object.unwrap_or(config),
            config,
            has_object: object.is_some(),
        }
    }

    /// The setting, its base from the object or else from field `theta` of the config.
    fn read(
        &self,
        theta: &'static str,
        default_theta: f64,
        max_position_embeddings: usize,
    ) -> Result<RopeConfig, EngineError> {
        self.refuse_what_we_lack()?;
        let inside = match self.has_object {
            true => self.object.f64("rope_theta")?,
            false => None,
        };
        let (name, theta) = match inside {
            Some(inside) => ("rope_theta", inside),
            None => (theta, self.config.f64(theta)?.unwrap_or(default_theta)),
        };
        if theta <= 1.0 {
            let message = format!("must be above 1, found {theta}");
            return Err(self.config.refuse(name, message));
        }
        let scaling = match self.has_object {
            true => self.scaling(max_position_embeddings)?,
            false => RopeScaling::Default,
        };
        Ok(RopeConfig { theta, scaling })
    }

    fn refuse_what_we_lack(&self) -> Result<(), EngineError> {
        for fields in [self.object, self.config] {
            if fields
                .f64("partial_rotary_factor")?
                .is_some_and(|factor| factor != 1.0)
            {
                return Err(fields.refuse(
                    "partial_rotary_factor",
                    "is not supported; only full rotation (1.0) is",
                ));
            }
        }
        if !self.has_object {
            return Ok(());
        }
        for nested in ["full_attention", "sliding_attention"] {
            if self.object.has_key(nested) {
                return Err(self.object.refuse(
                    nested,
                    "gives RoPE settings per layer type, which is read for Gemma 3 alone; \
                     other families have one set for all layers",
                ));
            }
        }
        Ok(())
    }

    fn scaling(&self, max_position_embeddings: usize) -> Result<RopeScaling, EngineError> {
        // "type" is the older spelling of "rope_type".
        let (field, name) = match self.object.str("rope_type")? {
            Some(name) => ("rope_type", name),
            None => ("type", self.object.str("type")?.unwrap_or("default")),
        };
        match name {
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear {
                factor: self.factor()?,
            }),
            "llama3" => self.llama3(max_position_embeddings),
            "yarn" => self.yarn(max_position_embeddings),
            "dynamic" | "longrope" | "su" => Err(self.object.refuse(
                field,
                format!(
                    "is {name:?}, whose frequencies depend on the total length of the prompt, so \
                     cached keys could not be placed; supported: default, linear, llama3, yarn"
                ),
            )),
            other => Err(self.object.refuse(
                field,
                format!("is {other:?}; supported: default, linear, llama3, yarn"),
            )),
        }
    }

    fn llama3(&self, max_position_embeddings: usize) -> Result<RopeScaling, EngineError> {
        let low_freq_factor = self.required_positive("low_freq_factor")?;
        let high_freq_factor = self.required_positive("high_freq_factor")?;
        if high_freq_factor <= low_freq_factor {
            return Err(self.object.refuse(
                "high_freq_factor",
                format!(
                    "must be above low_freq_factor ({low_freq_factor}), found {high_freq_factor}"
                ),
            ));
        }
        Ok(RopeScaling::Llama3 {
            factor: self.factor()?,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: self.original_length(max_position_embeddings)?,
        })
    }

    fn yarn(&self, max_position_embeddings: usize) -> Result<RopeScaling, EngineError> {
        let original = self.original_length(max_position_embeddings)?;
        // An explicit null means "the ratio of the lengths"; a missing key is an error.
        let factor = if self.object.has_key("factor") && self.object.get("factor").is_none() {
            max_position_embeddings as f64 / original as f64
        } else {
            self.factor()?
        };
        let beta = |name, default| {
            Ok::<f64, EngineError>(
                self.positive_or_zero(name)?
                    .filter(|beta| *beta != 0.0)
                    .unwrap_or(default),
            )
        };
        let (beta_fast, beta_slow) = (beta("beta_fast", 32.0)?, beta("beta_slow", 1.0)?);
        if beta_fast < beta_slow {
            return Err(self.object.refuse(
                "beta_fast",
                format!("must not be below beta_slow ({beta_slow}), found {beta_fast}"),
            ));
        }
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            attention_factor: self.positive_or_zero("attention_factor")?,
            beta_fast,
            beta_slow,
            mscale: self.positive_or_zero("mscale")?,
            mscale_all_dim: self.positive_or_zero("mscale_all_dim")?,
            truncate: self.object.bool("truncate")?.unwrap_or(true),
        })
    }

    fn factor(&self) -> Result<f64, EngineError> {
        let factor = self.required_positive("factor")?;
        if factor < 1.0 {
            return Err(self
                .object
                .refuse("factor", format!("must be at least 1, found {factor}")));
        }
        Ok(factor)
    }

    /// The length the model was pretrained for. A value beside the RoPE object takes precedence over one
    /// in it, and the model's own maximum is used if neither exists, as in transformers.
    fn original_length(&self, max_position_embeddings: usize) -> Result<usize, EngineError> {
        const NAME: &str = "original_max_position_embeddings";
        let length = match self.config.usize(NAME)? {
            Some(length) => length,
            None => self.object.usize(NAME)?.unwrap_or(max_position_embeddings),
        };
        if length == 0 {
            return Err(self.object.refuse(NAME, "must be at least 1"));
        }
        Ok(length)
    }

    fn required_positive(&self, name: &str) -> Result<f64, EngineError> {
        match self.positive_or_zero(name)? {
            Some(value) if value > 0.0 => Ok(value),
            Some(_) => Err(self.object.refuse(name, "must be above 0")),
            None => Err(self
                .object
                .refuse(name, "is missing; this rope type needs it")),
        }
    }

    fn positive_or_zero(&self, name: &str) -> Result<Option<f64>, EngineError> {
        let value = self.object.f64(name)?;
        if value.is_some_and(|value| value < 0.0) {
            return Err(self.object.refuse(name, "must not be negative"));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
