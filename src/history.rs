//! Records of the runs that were started from this machine, so that their alerts can be looked for later and
//! their results be shown again. What the cluster holds of a run goes with it; this stays.
//!
//! One file a run, the result as JSON, in the user's state folder (`XDG_STATE_HOME`). A result holds no secret.

use std::io::{self, Write};
use std::path::PathBuf;

use etcetera::BaseStrategy as _;
use tempfile::NamedTempFile;

use crate::files;
use crate::result::{Problem, RUN_SCHEMA, RunResult};

/// The folder with the records.
#[derive(Clone, Debug)]
pub struct History(PathBuf);

impl History {
    /// That of this user.
    ///
    /// # Errors
    /// Where there is no home directory.
    pub fn of_user() -> Result<Self, Problem> {
        let folders = etcetera::choose_base_strategy().map_err(|_| {
            let hint = "set XDG_STATE_HOME, or name a run's file: kubectl defender-sim verify --record FILE";
            Problem::usage(
                "there is no folder for records of runs: no home directory".to_owned(),
                Some(hint),
            )
        })?;
        // Windows has no such folder; the one for data is next to it.
        let state = folders.state_dir().unwrap_or_else(|| folders.data_dir());
        Ok(Self(state.join("defender-sim").join("runs")))
    }

    /// Writes the record of a run, in place of one that may be there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save(&self, run: &RunResult) -> Result<(), Problem> {
        let path = self.path(&run.run)?;
        let write = || {
            std::fs::create_dir_all(&self.0)?;
            let mut file = NamedTempFile::new_in(&self.0)?;
            serde_json::to_writer_pretty(&mut file, run)?;
            file.write_all(b"\n")?;
            file.persist(&path)?;
            Ok::<_, io::Error>(())
        };
        write().map_err(|error| Problem::usage(format!("failed to write {}: {error}", path.display()), None))
    }

    /// The record of a run.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn load(&self, run: &str) -> Result<RunResult, Problem> {
        let path = self.path(run)?;
        match files::read_text(&path) {
            Ok(text) => parse(&text, &path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Problem::usage(
                format!("there is no record of run {run} on this machine"),
                Some(
                    "kubectl defender-sim history lists them; verify --record names a file of another machine",
                ),
            )),
            Err(error) => Err(Problem::usage(
                format!("failed to read {}: {error}", path.display()),
                None,
            )),
        }
    }

    /// Every record that can be read, the newest first.
    pub fn all(&self) -> Vec<RunResult> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut runs: Vec<RunResult> = entries
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "json")
            })
            // A pipe would be waited for.
            .filter(|entry| entry.path().metadata().is_ok_and(|found| found.is_file()))
            .filter_map(|entry| files::read_text(&entry.path()).ok())
            .filter_map(|text| parse(&text, "").ok())
            .collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.started));
        runs
    }

    fn path(&self, run: &str) -> Result<PathBuf, Problem> {
        if is_id(run) {
            Ok(self.0.join(format!("{run}.json")))
        } else {
            Err(Problem::usage(
                format!("{run:?} is no id of a run"),
                Some("kubectl defender-sim history"),
            ))
        }
    }
}

/// Reads a record from a file, such as one that `--report json=` wrote on another machine.
///
/// # Errors
/// When it is none.
pub fn read(path: &std::path::Path) -> Result<RunResult, Problem> {
    let shown = path.display().to_string();
    let text = files::read_text(path);
    parse(
        &text.map_err(|error| Problem::usage(format!("failed to read {shown}: {error}"), None))?,
        &shown,
    )
}

fn parse(text: &str, path: &str) -> Result<RunResult, Problem> {
    let parsed: Result<RunResult, _> = serde_json::from_str(text);
    let refuse = |reason: &str| {
        Problem::usage(
            format!("{path} is no record of a run: {reason}"),
            Some("a record is what -o json or --report json=FILE of a run gives"),
        )
    };
    let run = parsed.map_err(|error| refuse(&error.to_string()))?;
    if run.schema != RUN_SCHEMA {
        return Err(refuse(&format!(
            "its schema is {:?}, not {RUN_SCHEMA}",
            run.schema
        )));
    }
    if !is_id(&run.run) {
        return Err(refuse(&format!("{:?} is no id of a run", run.run)));
    }
    Ok(run)
}

/// Letters and digits, as it becomes the name of a file and a word on a command line.
fn is_id(run: &str) -> bool {
    !run.is_empty() && run.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_record_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let history = History(folder.path().join("runs"));
        assert!(history.all().is_empty());
        let (mut one, mut other) = (fixture::verified(), fixture::mixed());
        one.run = "one".into();
        other.run = "other".into();
        other.started += jiff::SignedDuration::from_hours(1);
        history.save(&one).unwrap();
        history.save(&other).unwrap();
        let json = |run: &RunResult| serde_json::to_value(run).unwrap();
        assert_eq!(json(&history.load("one").unwrap()), json(&one));
        let ids: Vec<String> = history.all().into_iter().map(|run| run.run).collect();
        assert_eq!(ids, ["other", "one"]);
        // A file of somebody else is no record.
        std::fs::write(history.0.join("x.json"), "{}").unwrap();
        assert_eq!(history.all().len(), 2);
        assert!(
            history
                .load("x")
                .unwrap_err()
                .message
                .contains("is no record of a run")
        );
        assert!(
            history
                .load("nope")
                .unwrap_err()
                .message
                .contains("no record of run nope")
        );
        assert!(
            history
                .load("../etc")
                .unwrap_err()
                .message
                .contains("is no id of a run")
        );
        assert_eq!(
            std::fs::read_dir(&history.0).unwrap().count(),
            3,
            "nothing else is left"
        );
    }
}
