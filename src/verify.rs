//! Reads Defender's alerts until all that can come have come, or the time is over, and judges a run by them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::azure::{
    Answer, AzureCluster, AzureError, AzureOptions, HOW_TO_SAVE, Located, LoginKind, Saved, Source, locate,
    plan,
};
use crate::cli::{AlertSource, VerifyOptions};
use crate::defender::alerts;
use crate::defender::attribution::Subject;
use crate::defender::facts::{Fact, Facts};
use crate::defender::marks::Marks;
use crate::defender::verdict::{self, Found, Names, Question};
use crate::engine::{Event, Events, Stop};
use crate::exit::Exit;
use crate::files;
use crate::net::Cause;
use crate::result::{ClusterInfo, Problem, RunResult, Verdict, Verification};
use crate::words::counted;
use crate::yaml;

/// Sources may hand out alerts a little late, and clocks differ: alerts since so long before the run are read.
const EARLIER: SignedDuration = SignedDuration::from_hours(1);

/// Time after a run in which alerts may still be raised, unless `--wait` says otherwise.
pub const DEFAULT_WAIT: SignedDuration = SignedDuration::from_mins(90);

impl From<AzureError> for Problem {
    fn from(error: AzureError) -> Self {
        Problem {
            message: error.to_string(),
            hint: error.explained.hint,
            details: vec![],
            exit: Exit::AlertMissing,
        }
    }
}

/// Where the alerts of a cluster are read, and what the cluster is called there.
pub struct Place {
    source: Source,
    /// Names and ids of the cluster; none where it is not known.
    cluster: Vec<String>,
    names: Names,
    /// Whether the plan is on there.
    plan: Fact,
}

/// Finds out where the alerts of a cluster are. `marks` is what is known of it.
///
/// # Errors
/// When there is no login, or the cluster cannot be found and no flag names it.
pub async fn find(options: &VerifyOptions, cluster: &ClusterInfo, marks: Marks) -> Result<Place, Problem> {
    let names = match &options.alert_names {
        None => Names::new(),
        Some(path) => {
            let bad = |cause: String| {
                Problem::usage(format!("{} cannot be used: {cause}", files::shown(path)), None)
            };
            let text = files::read_text(path).map_err(|error| bad(error.to_string()))?;
            let names = yaml::parse(&text, |_| None).map_err(|mistake| bad(mistake.to_string()))?;
            let names: Names = names.unwrap_or_default();
            if let Some(id) = names.keys().find(|id| alerts::find(id).is_none()) {
                return Err(bad(format!(
                    "there is no alert {id:?}; see: kubectl defender-sim alerts -o name"
                )));
            }
            names
        }
    };
    let said = options.azure.resource_id.clone();
    let known = said.or_else(|| cluster.resource_id.clone());
    if let Some(path) = &options.alerts {
        let cluster = known.map(|id| id.parse::<AzureCluster>()).transpose()?;
        return Ok(Place {
            source: Source::Saved(Saved::from(path.as_path())),
            cluster: cluster.iter().flat_map(called).collect(),
            names,
            plan: Fact::Unknown("alerts are read from a file".to_owned()),
        });
    }
    let said = options.azure.options();
    let certain = said.certain(&marks);
    let azure = AzureOptions {
        resource_id: known,
        ..said
    };
    let Located { arm, search, scope } = locate(&azure, marks).await?;
    let Some(scope) = scope else {
        let mut problem = Problem::usage(
            "which resource this cluster is in Azure could not be found".to_owned(),
            None,
        );
        problem.details = search.tried;
        problem.hint =
            Some("name it: --resource-id ID, or --subscription ID to read all of its alerts".to_owned());
        return Err(problem);
    };
    let plan = match plan(&arm, scope.subscription(), search.found.as_ref(), certain).await {
        Ok(plan) if plan.on => Fact::Yes,
        Ok(plan) => {
            let off = format!("the plan Defender for Containers is off in {}", plan.of);
            if plan.decides {
                Fact::No(off)
            } else {
                Fact::Unknown(off)
            }
        }
        // Alerts can be read without the right to read plans.
        Err(error) => Fact::Unknown(error.to_string()),
    };
    let source = match options.alerts_source {
        AlertSource::Api => Source::Alerts(arm, scope),
        AlertSource::Graph => Source::Graph(arm, scope),
    };
    Ok(Place {
        source,
        cluster: search.found.iter().flat_map(called).collect(),
        names,
        plan,
    })
}

fn called(cluster: &AzureCluster) -> Vec<String> {
    vec![cluster.id.clone(), cluster.name.clone()]
}

impl Place {
    /// The id of the cluster in Azure, where it is known.
    pub fn resource_id(&self) -> Option<String> {
        self.cluster.first().cloned()
    }

    /// Reads once and keeps nothing, so that an obstacle is known before a run. A pipe can be read only once, and is
    /// left for later.
    ///
    /// # Errors
    /// Whatever keeps alerts from being read.
    pub async fn try_out(&self) -> Result<(), Problem> {
        if matches!(&self.source, Source::Saved(saved) if !saved.is_plain()) {
            return Ok(());
        }
        self.source.alerts(Timestamp::now(), drop).await?;
        Ok(())
    }

    /// Whether the source is worth reading again: a file only if asked to wait for it.
    fn can_change(&self, options: &VerifyOptions) -> bool {
        match &self.source {
            Source::Saved(saved) => options.wait.is_some() && saved.is_plain(),
            Source::Alerts(..) | Source::Graph(..) => true,
        }
    }

    /// Why an answer says nothing about the run, if it is the last before `end`.
    fn partial(&self, answer: Answer, end: Timestamp) -> Option<String> {
        if !answer.whole {
            return Some("the alerts read are a page that others follow".to_owned());
        }
        let Source::Saved(saved) = &self.source else {
            return None;
        };
        let of = saved.changed().unwrap_or_else(Timestamp::now);
        (of < end)
            .then(|| format!("the alerts read are of {of:.0}, and more may have been raised until {end:.0}"))
    }

    /// A saved list without an alert may be anything: it proves nothing.
    fn refuse_empty(&self, answer: Answer) -> Option<Problem> {
        let Source::Saved(saved) = &self.source else {
            return None;
        };
        let others = match answer.others {
            0 => "it contains no alerts".to_owned(),
            others => format!("it contains no alerts, but {}", counted(others, "other item")),
        };
        (answer.alerts == 0).then(|| Problem {
            message: format!("failed to read the alerts in {saved}: {others}"),
            hint: Some(HOW_TO_SAVE.to_owned()),
            details: vec![],
            exit: Exit::AlertMissing,
        })
    }
}

/// What was seen when the watch ended.
#[derive(Debug, Default)]
pub struct Watched {
    /// The last verdicts, where there was a look.
    pub last: Option<Verification>,
    /// What keeps alerts from being read: at once for what will not change by itself, else at the end.
    pub unread: Option<Problem>,
}

/// Reads the alerts of `run`, which are not those of `others`, until `options` say that it is enough; `seen` is
/// told of each look, so that what is known is kept even if this process is not.
pub async fn watch(
    (run, others): (&RunResult, &[RunResult]),
    place: &Place,
    options: &VerifyOptions,
    unobserved: bool,
    stop: &Stop,
    events: &Events,
    mut seen: impl FnMut(&Verification),
) -> Watched {
    let subject = Subject::of(run, place.cluster.clone(), unobserved).beside(others, run);
    let waited = options.wait.map_or(DEFAULT_WAIT, |wait| {
        SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)
    });
    // A record that lies in the future was written by a machine with another clock: nothing is waited for then.
    let ended = run.ended.min(Timestamp::now());
    let end = ended.saturating_add(waited).unwrap_or(Timestamp::MAX);
    let can_change = place.can_change(options);
    let mut watched = Watched::default();
    let mut question = Question {
        facts: facts(run, options, &place.plan),
        names: place.names.clone(),
        slowest: options
            .max_time_to_detect
            .and_then(|slowest| slowest.try_into().ok()),
        unobserved,
        required: options.require_alerts.unwrap_or_default(),
        ..Question::default()
    };
    loop {
        let looked = Timestamp::now();
        let mut pause = options.interval;
        question.waiting = can_change && looked < end;
        let mut found = Found::default();
        let read = place
            .source
            .alerts(subject.from - EARLIER, |alert| found.add(alert, &subject));
        let read = tokio::select! {
            read = read => read,
            () = stop.wait() => return watched,
        };
        match read {
            Ok(answer) => {
                let partial = place.partial(answer, end).filter(|_| !question.waiting);
                question.partial = partial;
                let empty = place.refuse_empty(answer);
                if let Some(problem) = empty.filter(|_| !question.waiting) {
                    watched.unread = Some(problem);
                    return watched;
                }
                let source = place.source.to_string();
                let verification = verdict::judge(run, found, &subject, &question, source, looked);
                seen(&verification);
                let waiting = verification.count(Verdict::Waiting);
                events.send(Event::Alerts {
                    raised: verification.count(Verdict::Raised),
                    waiting,
                    until: end,
                });
                // Where nothing is to come, the whole time has to pass without it.
                let quiet = verification.alerts.is_empty() && verification.additional.is_empty();
                watched.last = Some(verification);
                if waiting == 0 && !(quiet && question.waiting) {
                    // No verdict says it where nothing is expected.
                    watched.unread = question.partial.filter(|_| quiet).map(|reason| Problem {
                        message: format!("whether an alert was raised is unknown: {reason}"),
                        hint: None,
                        details: vec![],
                        exit: Exit::AlertMissing,
                    });
                    return watched;
                }
            }
            Err(error) if !question.waiting || !passing(error.explained.cause, watched.last.is_none()) => {
                watched.unread = Some(error.into());
                return watched;
            }
            Err(error) => {
                pause = pause.max(error.explained.retry_after.unwrap_or_default());
                events.send(Event::Notice(error.to_string()));
            }
        }
        let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(pause.min(left)) => {}
            () = stop.wait() => return watched,
        }
    }
}

/// Whether an error may go away by itself. What cannot be read at the `first` look is of a wrong form; later, it is
/// a file that is being written.
fn passing(cause: Cause, first: bool) -> bool {
    match cause {
        Cause::Unreachable | Cause::Busy | Cause::TimedOut | Cause::Other => true,
        Cause::Unreadable => !first,
        _ => false,
    }
}

/// What is known: by the cluster when it ran, by Azure now, and by the user, who knows best.
fn facts(run: &RunResult, options: &VerifyOptions, plan: &Fact) -> Facts {
    assumed(run.facts.clone().unwrap_or_default(), options, plan)
}

/// Refuses a run whose alerts cannot be raised, by what is known of the cluster before it.
///
/// # Errors
/// If there is no sensor, or the plan is off, and no `--assume` overrules that.
pub fn require_sensor(seen: Option<Facts>, options: &VerifyOptions, place: &Place) -> Result<(), Problem> {
    let facts = assumed(seen.unwrap_or_default(), options, &place.plan);
    for (name, fact) in [("plan", &facts.plan), ("sensor", &facts.sensor)] {
        if let Fact::No(reason) = fact {
            return Err(Problem {
                message: format!("no alert can be raised: {reason}; nothing was created"),
                hint: Some(format!(
                    "see what is missing: kubectl defender-sim doctor; to run all the same: --assume {name}=yes"
                )),
                details: vec![],
                exit: Exit::NotStarted,
            });
        }
    }
    Ok(())
}

fn assumed(mut facts: Facts, options: &VerifyOptions, plan: &Fact) -> Facts {
    facts.plan = plan.clone();
    for &(premise, is) in &options.assume {
        facts.assume(premise, is);
    }
    facts
}

/// Ways to log in, by the names that the command line has for them.
pub const LOGINS: [(&str, LoginKind); 4] = [
    ("workload-identity", LoginKind::WorkloadIdentity),
    ("managed-identity", LoginKind::ManagedIdentity),
    ("cli", LoginKind::AzureCli),
    ("azd", LoginKind::AzureDeveloperCli),
];
