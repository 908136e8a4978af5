//! Instruction set levels. In: cpuid and the variable `KUR_CPU`. Out: the [`Level`] that chooses library kernels and the
//! variant of generated code. Invariant: a `Level` obtained from [`Level::current`] or [`Level::available`] can run here,
//! which is what makes the `target_feature` calls behind it sound.

use std::fmt;
use std::sync::OnceLock;

use crate::payload::CpuLevel;

/// Name of the environment variable that lowers the level.
pub const LEVEL_VARIABLE: &str = "KUR_CPU";

/// What the processor (and the operating system) can run, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// x86-64 with SSE2.
    Baseline,
    /// x86-64-v3: AVX2, FMA, BMI1, BMI2, LZCNT.
    Avx2,
    /// Additionally AVX-512 F, VL, DQ and BW.
    Avx512,
}

/// Why no level could be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelError {
    /// `KUR_CPU` holds an unknown word.
    Unknown(String),
    /// `KUR_CPU` asks for more than the processor has.
    TooHigh {
        /// What it asks for.
        asked: Level,
        /// What there is.
        has: Level,
    },
}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LevelError::Unknown(word) => {
                write!(f, "{LEVEL_VARIABLE} is `{word}`, but must be one of baseline, avx2, avx512")
            }
            LevelError::TooHigh { asked, has } => {
                write!(f, "{LEVEL_VARIABLE} asks for {asked}, but this processor has only {has}")
            }
        }
    }
}

impl std::error::Error for LevelError {}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Level; 3] = [Level::Baseline, Level::Avx2, Level::Avx512];

    /// The word that `KUR_CPU` accepts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Baseline => "baseline",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// The variant of generated code to use.
    #[must_use]
    pub const fn code_level(self) -> CpuLevel {
        match self {
            Level::Baseline => CpuLevel::Baseline,
            Level::Avx2 | Level::Avx512 => CpuLevel::V3,
        }
    }

    /// The highest level of this processor, whatever `KUR_CPU` says.
    #[must_use]
    pub fn hardware() -> Level {
        let v3 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt");
        let v4 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw");
        match (v3, v4) {
            (true, true) => Level::Avx512,
            (true, false) => Level::Avx2,
            (false, _) => Level::Baseline,
        }
    }

    /// Every level this processor can run, lowest first.
    #[must_use]
    pub fn available() -> Vec<Level> {
        let top = Level::hardware();
        Level::ALL.into_iter().filter(|l| *l <= top).collect()
    }

    /// The level to use: the hardware's, or the lower one that `KUR_CPU` names. Decided once per process.
    ///
    /// # Errors
    /// An unknown word, or a level that the processor lacks.
    pub fn current() -> Result<Level, LevelError> {
        static CURRENT: OnceLock<Result<Level, LevelError>> = OnceLock::new();
        CURRENT
            .get_or_init(|| {
                let wish = std::env::var_os(LEVEL_VARIABLE).map(|w| w.to_string_lossy().into_owned());
                Level::choose(wish.as_deref(), Level::hardware())
            })
            .clone()
    }

    /// The rule behind [`Level::current`]; an empty wish counts as none.
    ///
    /// # Errors
    /// An unknown word, or a level above `has`.
    pub fn choose(wish: Option<&str>, has: Level) -> Result<Level, LevelError> {
        let Some(word) = wish.filter(|w| !w.is_empty()) else { return Ok(has) };
        match Level::ALL.into_iter().find(|l| l.name() == word) {
            None => Err(LevelError::Unknown(word.to_owned())),
            Some(asked) if asked > has => Err(LevelError::TooHigh { asked, has }),
            Some(asked) => Ok(asked),
        }
    }
}

/// The processor's marketing name from cpuid, or its vendor when it gives none.
#[must_use]
pub fn processor_name() -> String {
    use std::arch::x86_64::__cpuid;
    let mut text = Vec::with_capacity(48);
    if __cpuid(0x8000_0000).eax >= 0x8000_0004 {
        for leaf in 0x8000_0002..=0x8000_0004_u32 {
            let r = __cpuid(leaf);
            for word in [r.eax, r.ebx, r.ecx, r.edx] {
                text.extend_from_slice(&word.to_le_bytes());
            }
        }
    } else {
        let r = __cpuid(0);
        for word in [r.ebx, r.edx, r.ecx] {
            text.extend_from_slice(&word.to_le_bytes());
        }
    }
    let text: String = text.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_lowers_the_level_but_never_raises_it() {
        assert_eq!(Level::choose(None, Level::Avx2), Ok(Level::Avx2));
        assert_eq!(Level::choose(Some(""), Level::Avx2), Ok(Level::Avx2));
        assert_eq!(Level::choose(Some("baseline"), Level::Avx512), Ok(Level::Baseline));
        assert_eq!(
            Level::choose(Some("avx512"), Level::Avx2),
            Err(LevelError::TooHigh { asked: Level::Avx512, has: Level::Avx2 })
        );
        let unknown = Level::choose(Some("sse9"), Level::Avx512).expect_err("unknown word");
        assert_eq!(unknown.to_string(), "KUR_CPU is `sse9`, but must be one of baseline, avx2, avx512");
    }

    #[test]
    fn the_processor_has_a_name() {
        assert!(!processor_name().is_empty());
        assert!(Level::available().contains(&Level::Baseline));
    }
}
