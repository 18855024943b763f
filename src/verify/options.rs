//! How a run is judged.

use std::collections::BTreeSet;
use std::str::FromStr;

use jiff::SignedDuration;

use super::matching::Names;
use crate::defender::facts::Facts;
use crate::error::Error;
use crate::result::Detections;

/// Which alerts are required, contrary to the scenarios.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// IDs of alerts that are required.
    pub expect: Vec<String>,
    /// IDs of alerts that are optional, unless they are in `expect`.
    pub optional: Vec<String>,
    /// IDs that are meant for this run; the others may be meant for other runs.
    pub given: Vec<String>,
}

impl Overrides {
    /// Changes the alerts of a run: the ID of each, and whether it is optional.
    ///
    /// # Errors
    /// If an ID is meant for the run, but none of its alerts has it.
    pub fn apply<'a>(&self, alerts: impl Iterator<Item = (&'a str, &'a mut bool)>) -> Result<(), Error> {
        let mut missing: BTreeSet<&str> = self.given.iter().map(String::as_str).collect();
        for (id, is_optional) in alerts {
            missing.remove(id);
            let is_in = |ids: &[String]| ids.iter().any(|listed| listed == id);
            *is_optional = !is_in(&self.expect) && (*is_optional || is_in(&self.optional));
        }
        let Some(id) = missing.first() else {
            return Ok(());
        };
        Err(Error::AlertNotRaised { id: (*id).to_owned() })
    }
}

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
    /// Whether the fact about the sensor holds for every victim: the user asserted it.
    pub sensor_is_assumed: bool,
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
    /// What earlier runs on this cluster detected.
    pub earlier: Detections,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_change_the_alerts_that_they_name() {
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        let overrides = Overrides {
            expect: ids(&["drift-blocked", "shred"]),
            optional: ids(&["web-shell", "shred", "chattr"]),
            given: ids(&["drift-blocked", "web-shell"]),
        };
        let mut alerts = [
            ("web-shell", false),
            ("drift-blocked", true),
            ("shred", false),
            ("ld-preload", false),
            ("token-access", true),
        ];
        let pairs = alerts.iter_mut().map(|(id, optional)| (*id, optional));
        assert_eq!(overrides.apply(pairs).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(
            alerts.map(|(_, optional)| optional),
            [true, false, false, false, true]
        );
        let others = alerts[1..].iter_mut().map(|(id, optional)| (*id, optional));
        let problem = overrides.apply(others).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "no scenario of this run raises the alert \"web-shell\""
        );
    }
}
