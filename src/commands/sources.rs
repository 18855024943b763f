//! Plans a run from the names and files of scenarios.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::cli::{RunArgs, ScenarioRun, SelectedRun};
use crate::error::Error;
use crate::lint::{self, Linted};
use crate::plan::{Options, Plan};
use crate::scenario::{self, Scenario, catalogue};

/// The source of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A built-in scenario, by its ID.
    BuiltIn(String),
    /// A file of the user.
    File(PathBuf),
}

/// A requested run.
pub(super) struct Request {
    /// The scenarios to run, in order.
    pub sources: Vec<Source>,
    /// How to run them.
    pub args: RunArgs,
}

impl Request {
    /// Requests one built-in scenario.
    pub fn one(scenario: ScenarioRun) -> Self {
        Self::new(vec![Source::BuiltIn(scenario.id)], scenario.run)
    }

    /// Requests every attack.
    pub fn all(args: RunArgs) -> Self {
        Self::new(all(), args)
    }

    /// Requests the named scenarios, followed by those in files.
    pub fn selected(selected: SelectedRun) -> Self {
        let mut ids = selected.scenarios;
        for id in selected.family.into_iter().flat_map(catalogue::family) {
            if !ids.iter().any(|known| known == id) {
                ids.push(id.to_owned());
            }
        }
        let files = selected.file.into_iter().map(Source::File);
        Self::new(built_in(ids).into_iter().chain(files).collect(), selected.run)
    }

    fn new(sources: Vec<Source>, args: RunArgs) -> Self {
        let sources = if args.baseline {
            built_in([catalogue::baseline().id.clone()])
        } else {
            sources
        };
        Self { sources, args }
    }

    /// Plans the run.
    ///
    /// # Errors
    /// Returns the same errors as [`plan`], and fails if a flag names an alert that the run does not raise.
    pub fn plan(&self, namespace: Option<String>) -> Result<Plan, Error> {
        let options = self.args.settings.clone().options(self.args.keep);
        let mut plan = plan(&self.sources, options, namespace)?;
        let alerts = plan
            .scenarios
            .iter_mut()
            .flat_map(|scenario| &mut scenario.alerts);
        let overrides = self.args.verify_options.overrides();
        overrides.apply(alerts.map(|alert| (alert.id.as_str(), &mut alert.optional)))?;
        Ok(plan)
    }
}

/// Returns the sources of built-in scenarios by their IDs.
pub(super) fn built_in(ids: impl IntoIterator<Item = String>) -> Vec<Source> {
    ids.into_iter().map(Source::BuiltIn).collect()
}

/// Returns the sources of all attacks.
pub(super) fn all() -> Vec<Source> {
    built_in(catalogue::attacks().map(str::to_owned))
}

/// Plans a run of the scenarios.
///
/// # Errors
/// Fails if a scenario cannot be used, or if two cannot share a run.
pub(super) fn plan(sources: &[Source], options: Options, namespace: Option<String>) -> Result<Plan, Error> {
    let mut random = [0; 64];
    getrandom::fill(&mut random).map_err(|error| Error::OperatingSystem {
        doing: "get randomness from the operating system",
        source: error.into(),
    })?;
    let scenarios = read(sources)?;
    let conflicts = scenario::conflicts(&scenarios);
    if !conflicts.is_empty() {
        return Err(Error::ScenarioConflict { conflicts });
    }
    Ok(Plan::new(options, namespace, scenarios, random, Timestamp::now()))
}

/// Reads the scenarios, in order.
///
/// # Errors
/// Returns every mistake in every file.
pub(super) fn read(sources: &[Source]) -> Result<Vec<Scenario>, Error> {
    let paths = sources.iter().filter_map(|source| match source {
        Source::File(path) => Some(path.clone()),
        Source::BuiltIn(_) => None,
    });
    let linted = lint::lint(&paths.collect::<Vec<_>>());
    let bad: Vec<&Linted> = linted.iter().filter(|file| !file.errors.is_empty()).collect();
    if !bad.is_empty() {
        return Err(Error::ScenariosInvalid {
            files: bad.iter().map(|file| file.file.clone()).collect(),
            mistakes: bad.into_iter().flat_map(Linted::sentences).collect(),
        });
    }
    let mut files = linted.into_iter().filter_map(|file| file.content);
    let scenario = |source: &Source| match source {
        Source::BuiltIn(id) => catalogue::find(id)
            .cloned()
            .ok_or_else(|| Error::ScenarioUnknown { id: id.clone() }),
        Source::File(_) => Ok(files.next().expect("a file without errors has a scenario")),
    };
    sources.iter().map(scenario).collect()
}
