//! Exit codes: the part of the result that a pipeline evaluates.
//!
//! All commands share one enum. If several codes apply, [`Exit::worse`] selects one: objects left behind outweigh an
//! unproved step, which outweighs a missing alert; a failure to write output has the lowest weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the process says to its caller when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// Nothing failed: every step that applies was proved, and the cluster holds nothing but what is kept.
    Ok,
    /// A fault of this program.
    Bug,
    /// The command line (or a file it names) cannot be used.
    Usage,
    /// Nothing was attacked: unreachable, no rights, refused, not startable.
    NotStarted,
    /// At least one step of the attack was not proved.
    NotProved,
    /// An alert that was to come did not, one came that must not, or alerts could not be read.
    AlertMissing,
    /// Something of a run is left in the cluster, or its removal could not be verified.
    LeftBehind,
    /// A result or a report could not be written.
    Unwritten,
    /// The terminal was closed (128 + SIGHUP, as in shells); a run cleans up first.
    HungUp,
    /// Stopped by Ctrl-C (128 + SIGINT); a run cleans up first.
    Interrupted,
    /// Asked to terminate (128 + SIGTERM); a run cleans up first.
    Terminated,
}

impl Exit {
    /// Every code, in ascending order, with the sentence the documentation prints for it.
    pub const ALL: [(Exit, &'static str); 11] = [
        (
            Exit::Ok,
            "success: every step was proved or skipped and the cluster is clean",
        ),
        (Exit::Bug, "a bug in this program"),
        (Exit::Usage, "the command line cannot be used"),
        (
            Exit::NotStarted,
            "could not start: unreachable, missing rights, or refused",
        ),
        (Exit::NotProved, "a step was not proved"),
        (
            Exit::AlertMissing,
            "an alert is missing or unexpected, or alerts could not be read",
        ),
        (
            Exit::LeftBehind,
            "objects were left behind, or cleanup could not be verified",
        ),
        (Exit::Unwritten, "a result or report could not be written"),
        (Exit::HungUp, "the terminal was closed"),
        (Exit::Interrupted, "interrupted"),
        (Exit::Terminated, "terminated"),
    ];

    /// Returns the exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Bug => 1,
            Exit::Usage => 2,
            Exit::NotStarted => 3,
            Exit::NotProved => 4,
            Exit::AlertMissing => 5,
            Exit::LeftBehind => 6,
            Exit::Unwritten => 7,
            Exit::HungUp => 129,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }

    /// Returns the outcome of the two that must be reported.
    ///
    /// ```
    /// use defender_sim::exit::Exit;
    /// assert_eq!(Exit::NotProved.worse(Exit::LeftBehind), Exit::LeftBehind);
    /// assert_eq!(Exit::AlertMissing.worse(Exit::NotProved), Exit::NotProved);
    /// assert_eq!(Exit::Interrupted.worse(Exit::LeftBehind), Exit::LeftBehind);
    /// ```
    #[must_use]
    pub fn worse(self, other: Exit) -> Exit {
        if other.weight() > self.weight() {
            other
        } else {
            self
        }
    }

    /// Lists all failures in order of precedence: `1, 6, 2, ...`.
    pub fn precedence() -> String {
        let mut exits = Self::ALL.map(|(exit, _)| exit).to_vec();
        exits.sort_by_key(|exit| std::cmp::Reverse(exit.weight()));
        let failures = exits.into_iter().filter(|exit| *exit != Exit::Ok);
        let codes: Vec<String> = failures.map(|exit| exit.code().to_string()).collect();
        codes.join(", ")
    }

    fn weight(self) -> u8 {
        match self {
            Exit::Ok => 0,
            // A full disk must not hide another outcome.
            Exit::Unwritten => 1,
            Exit::AlertMissing => 2,
            Exit::NotProved => 3,
            Exit::NotStarted => 4,
            Exit::HungUp => 5,
            Exit::Terminated => 6,
            Exit::Interrupted => 7,
            Exit::Usage => 8,
            Exit::LeftBehind => 9,
            Exit::Bug => 10,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_in_ascending_order() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 129, 130, 143]);
    }

    #[test]
    fn unwritten_output_hides_no_other_outcome() {
        for (exit, _) in Exit::ALL {
            let expected = if exit == Exit::Ok { Exit::Unwritten } else { exit };
            assert_eq!(exit.worse(Exit::Unwritten), expected);
        }
    }

    #[test]
    fn worse_is_symmetric() {
        for (a, _) in Exit::ALL {
            for (b, _) in Exit::ALL {
                assert_eq!(a.worse(b), b.worse(a));
            }
        }
    }
}
