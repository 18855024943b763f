//! Records of the runs started from this machine, for later verification and reports.
//!
//! Unlike the objects of a run, they are kept.
//!
//! Each run has one file in the user's state folder (`XDG_STATE_HOME`): its result as JSON. A result has no secrets.

use std::cmp::Reverse;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::error::Error;
use crate::result::{RUN_SCHEMA, RUN_SCHEMA_V1, RunResult, upgrade};
use crate::{files, untrusted};

/// The folder with the records.
#[derive(Clone, Debug)]
pub struct History(PathBuf);

impl History {
    /// Opens the folder of the current user.
    ///
    /// # Errors
    /// Fails if there is no home directory.
    pub fn of_user() -> Result<Self, Error> {
        let folders = etcetera::choose_base_strategy().map_err(|_| Error::NoHome)?;
        // Windows has no state folder, only a data folder.
        let state = folders.state_dir().unwrap_or_else(|| folders.data_dir());
        Ok(Self(state.join("defender-sim").join("runs")))
    }

    /// Writes or replaces the record of a run.
    ///
    /// # Errors
    /// Fails if the record cannot be written.
    pub fn save(&self, run: &RunResult) -> Result<(), Error> {
        let path = self.0.join(format!("{}.json", run.run));
        let write = || {
            std::fs::create_dir_all(&self.0)?;
            let mut file = NamedTempFile::new_in(&self.0)?;
            serde_json::to_writer_pretty(&mut file, run)?;
            file.write_all(b"\n")?;
            file.persist(&path)?;
            Ok::<_, io::Error>(())
        };
        write().map_err(|source| Error::Unwritten {
            what: path.display().to_string(),
            source,
        })
    }

    /// Returns the record of a run by its ID, also in the form `run/ID`, or by a unique prefix of the ID.
    ///
    /// # Errors
    /// Fails if no record or several match, or if the record cannot be read.
    pub fn load(&self, wanted: &str) -> Result<RunResult, Error> {
        let wanted = wanted.strip_prefix("run/").unwrap_or(wanted);
        if !is_id(wanted) {
            return Err(Error::NotARunId {
                id: wanted.to_owned(),
            });
        }
        let paths = self.paths()?;
        let mut ids: Vec<&str> = paths
            .iter()
            .filter_map(|path| path.file_stem()?.to_str())
            .collect();
        if ids.contains(&wanted) {
            ids = vec![wanted];
        } else {
            ids.retain(|id| id.starts_with(wanted));
        }
        match ids[..] {
            [id] => read_plain(&self.0.join(format!("{id}.json"))),
            [] => Err(Error::RecordNotFound {
                run: wanted.to_owned(),
            }),
            _ => {
                ids.sort_unstable();
                Err(Error::RunAmbiguous {
                    prefix: wanted.to_owned(),
                    ids: ids.into_iter().map(str::to_owned).collect(),
                })
            }
        }
    }

    /// Returns the record of the last run, in `namespace` and in `context` if given.
    ///
    /// # Errors
    /// Fails if there is no record, or if an unreadable record may be newer.
    pub fn last(&self, namespace: Option<&str>, context: Option<&str>) -> Result<RunResult, Error> {
        let records = self.all()?;
        let matches = |run: &RunResult| {
            namespace.is_none_or(|namespace| run.namespace == namespace)
                && (context.is_none() || context == run.cluster.context.as_deref())
        };
        let last = records.runs.into_iter().find(matches);
        let newer = |record: &Unreadable| last.as_ref().is_none_or(|last| record.may_be_newer(last));
        let newer: Vec<Unreadable> = records.unreadable.into_iter().filter(newer).collect();
        if !newer.is_empty() {
            return Err(Error::LastRunUnknown {
                readable: last.map(|last| last.run),
                unreadable: newer.into_iter().map(|record| record.message).collect(),
            });
        }
        last.ok_or_else(|| {
            let namespace = namespace.map(|name| format!(" in namespace {name}"));
            let context = context.map(|name| format!(" in context {name}"));
            Error::NoRecord {
                place: namespace.into_iter().chain(context).collect(),
            }
        })
    }

    /// Returns all records.
    ///
    /// # Errors
    /// Fails if the folder exists and cannot be read.
    pub fn all(&self) -> Result<Records, Error> {
        let mut records = Records::default();
        for path in self.paths()? {
            match read_plain(&path) {
                Ok(run) => records.runs.push(run),
                Err(error) => records.unreadable.push(Unreadable::new(&path, &error)),
            }
        }
        records.runs.sort_by_key(|run| Reverse(run.started));
        records.unreadable.sort_by_key(|record| Reverse(record.modified));
        Ok(records)
    }

    fn paths(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let entries = entries.map_err(|error| unreadable(&self.0, error))?;
        let paths = entries.into_iter().map(|entry| entry.path());
        Ok(paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect())
    }
}

/// The records of this machine.
#[derive(Debug, Default)]
pub struct Records {
    /// Records, newest first.
    pub runs: Vec<RunResult>,
    /// Unreadable files, last modified first.
    pub unreadable: Vec<Unreadable>,
}

/// A file in the folder that cannot be read as a record.
#[derive(Debug)]
pub struct Unreadable {
    /// The path, and why the file cannot be read.
    pub message: String,
    /// When it was last modified, if known.
    pub modified: Option<Timestamp>,
}

impl Unreadable {
    fn new(path: &Path, error: &Error) -> Self {
        let modified = path.symlink_metadata().and_then(|found| found.modified());
        Self {
            message: error.to_string(),
            modified: modified.ok().and_then(|time| Timestamp::try_from(time).ok()),
        }
    }

    /// Returns whether this may be the record of a run after `run`. A record is never modified before its run starts.
    fn may_be_newer(&self, run: &RunResult) -> bool {
        // Times in a record are from the cluster; the time of the file is from this machine.
        let offset = SignedDuration::from_secs(run.clock_offset_seconds.unwrap_or_default());
        let started = run.started.saturating_sub(offset);
        !matches!((self.modified, started), (Some(modified), Ok(started)) if modified < started)
    }
}

/// Reads a record from a file, such as one written by `--report json=` on another machine.
///
/// # Errors
/// Fails if the file is not a record.
pub fn read(path: &Path) -> Result<RunResult, Error> {
    read_any(path).map_err(|error| Error::RecordFile(Box::new(error)))
}

/// Reads a record in the folder. Rejects a pipe, which would block.
fn read_plain(path: &Path) -> Result<RunResult, Error> {
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(Error::NotAPlainFile {
            path: path.to_owned(),
        }),
        Ok(_) => read_any(path),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn read_any(path: &Path) -> Result<RunResult, Error> {
    let text = files::read_text(path).map_err(|error| unreadable(path, error))?;
    parse(&text, &files::shown(path))
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::FileUnreadable {
        path: path.to_owned(),
        source,
    }
}

fn parse(text: &str, file: &str) -> Result<RunResult, Error> {
    let refuse = |reason: &dyn Display| Error::NotARecord {
        file: file.to_owned(),
        reason: reason.to_string(),
    };
    let mut value: Value = serde_json::from_str(text).map_err(|error| refuse(&error))?;
    clean(&mut value);
    let schema = value["schema"].as_str().unwrap_or_default();
    if let (Some((kind, version)), Some((ours, our_version))) =
        (split_version(schema), split_version(RUN_SCHEMA))
        && kind == ours
        && version > our_version
    {
        return Err(Error::RecordTooNew {
            file: file.to_owned(),
            schema: schema.to_owned(),
        });
    }
    match schema {
        RUN_SCHEMA => {}
        RUN_SCHEMA_V1 => upgrade(&mut value),
        _ if value.is_object() => {
            return Err(refuse(&format!("its schema is {schema:?}, not {RUN_SCHEMA}")));
        }
        _ => {}
    }
    let run: RunResult = serde_json::from_value(value).map_err(|error| refuse(&error))?;
    if !is_id(&run.run) {
        return Err(refuse(&format!("{:?} is not a run ID", run.run)));
    }
    Ok(run)
}

/// Splits a schema into its kind and version: `("defender-sim/run", 1)`.
fn split_version(schema: &str) -> Option<(&str, u32)> {
    let (kind, version) = schema.rsplit_once("/v")?;
    Some((kind, version.parse().ok()?))
}

/// Removes control characters from every text: the record may be untrusted.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = untrusted::text(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns whether a run ID has only letters and digits. It is used as a file name and on command lines.
fn is_id(run: &str) -> bool {
    !run.is_empty() && run.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::Kubectl;
    use crate::report::fixture;

    fn folder() -> (tempfile::TempDir, History) {
        let folder = tempfile::tempdir().unwrap();
        let history = History(folder.path().join("runs"));
        (folder, history)
    }

    /// Creates a run with this ID that started the given number of hours after the others.
    fn run(id: &str, hours: i64) -> RunResult {
        let mut run = fixture::verified();
        run.run = id.into();
        run.started += SignedDuration::from_hours(hours);
        run
    }

    fn ids(history: &History) -> Vec<String> {
        let runs = history.all().unwrap().runs;
        runs.into_iter().map(|run| run.run).collect()
    }

    #[test]
    fn record_is_read_as_written() {
        let (_folder, history) = folder();
        assert!(history.all().unwrap().runs.is_empty());
        let (one, other) = (run("one", 0), run("other", 1));
        history.save(&one).unwrap();
        history.save(&other).unwrap();
        let json = |run: &RunResult| serde_json::to_value(run).unwrap();
        assert_eq!(json(&history.load("one").unwrap()), json(&one));
        assert_eq!(ids(&history), ["other", "one"]);
        assert_eq!(
            std::fs::read_dir(&history.0).unwrap().count(),
            2,
            "nothing else is left"
        );
    }

    #[test]
    fn run_is_found_by_id_or_unique_prefix() {
        let (_folder, history) = folder();
        for id in ["5y55zncm", "5y5", "5z", "a1", "a2", "a3", "a4", "a5", "a6"] {
            history.save(&run(id, 0)).unwrap();
        }
        for (wanted, found) in [
            ("5y55zncm", "5y55zncm"),
            ("5y55", "5y55zncm"),
            ("run/5y55", "5y55zncm"),
            ("run/5y55zncm", "5y55zncm"),
            ("5y5", "5y5"),
            ("5z", "5z"),
        ] {
            assert_eq!(history.load(wanted).unwrap().run, found, "{wanted}");
        }
        for (wanted, message) in [
            ("5", "several runs begin with 5: 5y5, 5y55zncm, 5z"),
            ("run/5y", "several runs begin with 5y: 5y5, 5y55zncm"),
            ("a", "several runs begin with a: a1, a2, a3, a4, a5 and 1 more"),
            ("nope", "no record of run nope on this machine"),
            ("", "\"\" is not a run ID"),
            ("run/", "\"\" is not a run ID"),
            ("../etc", "\"../etc\" is not a run ID"),
            ("5Y5", "\"5Y5\" is not a run ID"),
        ] {
            let error = history.load(wanted).unwrap_err();
            let hint = error.hint(&Kubectl::default());
            assert_eq!((error.to_string().as_str(), hint.is_some()), (message, true));
        }
    }

    #[test]
    fn control_characters_are_removed_from_a_record() {
        let mut hostile = run("one", 0);
        let text = "a\u{1b}]0;x\u{7}\u{202e}b\u{9b}2J\r\nsecond\u{7f}";
        hostile.namespace = text.into();
        hostile.cluster.server = text.into();
        hostile.scenarios[0].steps[0].evidence = Some(text.into());
        hostile.verification.as_mut().unwrap().alerts[0].name = text.into();
        let read = parse(&serde_json::to_string(&hostile).unwrap(), "x").unwrap();
        let clean = "a]0;xb2J\nsecond";
        assert_eq!(read.namespace, clean);
        assert_eq!(read.cluster.server, clean);
        assert_eq!(read.scenarios[0].steps[0].evidence.as_deref(), Some(clean));
        assert_eq!(read.verification.unwrap().alerts[0].name, clean);
    }

    #[test]
    fn invalid_record_is_reported() {
        let (_folder, history) = folder();
        let good = serde_json::to_value(run("one", 0)).unwrap();
        let with = |field: &str, value: Value| {
            let mut record = good.clone();
            record[field] = value;
            record.to_string()
        };
        let newer = "was written by a newer version of this tool: its schema is \"defender-sim/run/v";
        for (text, part) in [
            (String::new(), "is not a record of a run: EOF"),
            (
                good.to_string()[..100].to_owned(),
                "is not a record of a run: EOF",
            ),
            ("{}".to_owned(), "its schema is \"\", not defender-sim/run/v2"),
            ("[]".to_owned(), "is not a record of a run: invalid"),
            ("7".to_owned(), "is not a record of a run: invalid"),
            (with("schema", "defender-sim/run/v3".into()), newer),
            (with("schema", "defender-sim/run/v10".into()), newer),
            (with("schema", "defender-sim/run/v0".into()), "its schema is"),
            (with("schema", "defender-sim/plan/v2".into()), "is not a record"),
            (with("schema", 2.into()), "is not a record"),
            (with("run", "../../x".into()), "\"../../x\" is not a run ID"),
            (with("started", "soon".into()), "is not a record"),
            (with("exit", "\u{1b}[2J".into()), "unknown variant `[2J`"),
        ] {
            std::fs::create_dir_all(&history.0).unwrap();
            let path = history.0.join("x.json");
            std::fs::write(&path, text).unwrap();
            let path = path.display().to_string();
            let all = history.all().unwrap();
            let messages = [
                read(Path::new(&path)).unwrap_err().to_string(),
                history.load("x").unwrap_err().to_string(),
                all.unreadable[0].message.clone(),
            ];
            assert!(all.runs.is_empty(), "{part}");
            for message in messages {
                assert!(
                    message.contains(part) && message.contains(&path),
                    "{part} in {message}"
                );
            }
        }
    }

    #[test]
    fn unreadable_record_never_makes_an_older_run_the_last() {
        let now = Timestamp::now();
        let at = |hours: i64| now + SignedDuration::from_hours(hours);
        for (modified, offset, is_last_known) in [
            (at(0), None, false),
            (at(-1), None, false),
            (at(-3), None, true),
            // The cluster's clock is ahead by two hours: by the local clock, the run started four hours ago.
            (at(-3), Some(2 * 3600), false),
            (at(-5), Some(2 * 3600), true),
        ] {
            let (_folder, history) = folder();
            let mut older = run("older", 0);
            (older.started, older.clock_offset_seconds) = (at(-2), offset);
            history.save(&older).unwrap();
            let torn = history.0.join("torn.json");
            let file = std::fs::File::create(&torn).unwrap();
            file.set_modified(modified.into()).unwrap();
            let last = history.last(None, None);
            assert_eq!(last.is_ok(), is_last_known, "{modified} {offset:?}");
            if let Err(error) = last {
                assert!(error.details()[0].contains(&torn.display().to_string()));
                let hint = error.hint(&Kubectl::default()).unwrap();
                assert!(hint.contains("kubectl defender-sim report older"));
            }
            assert_eq!(history.load("older").unwrap().run, "older");
            assert_eq!(ids(&history), ["older"]);
        }
    }

    #[test]
    fn unreadable_record_without_another_is_reported() {
        let (_folder, history) = folder();
        std::fs::create_dir_all(history.0.join("folder.json")).unwrap();
        for namespace in [None, Some("sim")] {
            let error = history.last(namespace, None).unwrap_err();
            assert_eq!(error.to_string(), "cannot determine the last run");
            assert!(error.details()[0].ends_with("folder.json is not a plain file"));
        }
    }

    #[test]
    fn unreadable_folder_is_reported() {
        let (folder, history) = folder();
        std::fs::write(folder.path().join("runs"), "").unwrap();
        for error in [
            history.all().unwrap_err(),
            history.last(None, None).unwrap_err(),
            history.load("x").unwrap_err(),
        ] {
            let message = error.to_string();
            assert!(message.ends_with("runs: not a directory"), "{message}");
        }
    }
}
