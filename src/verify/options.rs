//! How a run is judged.

use std::str::FromStr;

use jiff::SignedDuration;

use super::matching::Names;
use crate::defender::facts::Facts;

/// How many of the expected alerts have to be raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Required {
    /// At least one, and none may be known to be missing.
    #[default]
    NoneMissing,
    /// At least this many.
    AtLeast(usize),
    /// All except optional ones.
    All,
}

/// Parses `all`, `none`, or a number.
impl FromStr for Required {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::AtLeast(0)),
            _ => text
                .parse()
                .map(Self::AtLeast)
                .map_err(|_| "expected all, none or a number".to_owned()),
        }
    }
}

/// Options of a judgement.
#[derive(Clone, Debug, Default)]
pub struct JudgeOptions {
    /// Facts of the cluster.
    pub facts: Facts,
    /// Names that the catalogue lacks.
    pub names: Names,
    /// Whether alerts may still be raised.
    pub waiting: bool,
    /// Why the alerts read may be incomplete, if they may.
    pub gap: Option<String>,
    /// Whether the outcome of the steps is unknown; they count as proved then.
    pub unobserved: bool,
    /// Time after which a raised alert fails as late.
    pub max_time_to_detect: Option<SignedDuration>,
    /// How many alerts have to be raised.
    pub required: Required,
}
