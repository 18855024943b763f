//! What a command does in one cluster of a fleet.

use super::session::Session;
use super::sources::Request;
use super::{attack, cleanup, doctor, dry_run, verify};
use crate::cli::{Action, Cleanup, Doctor, DryRun, Verify};
use crate::error::Error;
use crate::plan::Plan;
use crate::result::ClusterResult;

/// The work in one cluster.
pub(super) enum Job {
    /// A run, or a dry run.
    Run(Box<(Request, Plan)>),
    /// The checks before a run.
    Doctor(Box<(Doctor, Plan)>),
    /// The alerts of a run.
    Verify(Box<Verify>),
    /// The removal of what runs left behind.
    Cleanup(Cleanup),
}

impl Job {
    /// Plans the work.
    ///
    /// # Errors
    /// Fails if a scenario or an option cannot be used.
    pub fn new(action: Action, session: &Session) -> Result<Self, Error> {
        Ok(match action {
            Action::Scenario(scenario) => Self::of_run(Request::one(scenario), session)?,
            Action::All(args) => Self::of_run(Request::all(args), session)?,
            Action::Run(selected) => Self::of_run(Request::selected(selected), session)?,
            Action::Doctor(request) => {
                let plan = doctor::plan(&request, session)?;
                Self::Doctor(Box::new((request, plan)))
            }
            Action::Verify(request) => Self::Verify(Box::new(request)),
            Action::Cleanup(request) => Self::Cleanup(request),
            _ => unreachable!("the parser accepts a fleet only for these"),
        })
    }

    fn of_run(request: Request, session: &Session) -> Result<Self, Error> {
        let plan = request.plan(session.namespace.clone())?;
        Ok(Self::Run(Box::new((request, plan))))
    }

    /// Returns the run for which requests are sent.
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Run(run) => Some(&run.1),
            _ => None,
        }
    }

    /// Returns whether the cluster is contacted.
    pub fn connects(&self) -> bool {
        match self {
            Self::Run(run) => run.0.args.dry_run != DryRun::Client,
            Self::Verify(request) => request.options.alerts.is_none(),
            Self::Doctor(_) | Self::Cleanup(_) => true,
        }
    }

    /// Returns the action that needs a confirmation, as a verb with its object, or `None` if none does.
    pub fn needs_confirmation(&self) -> Option<String> {
        match self {
            Self::Run(run) if run.0.args.dry_run == DryRun::None && !run.0.args.yes => {
                let scenarios = run.1.scenarios.iter().map(|scenario| scenario.id.as_str());
                Some(format!("run {}", scenarios.collect::<Vec<_>>().join(", ")))
            }
            Self::Cleanup(request) if !request.dry_run && !request.yes => {
                Some("remove what runs left behind".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the namespace that is changed, which is `Some(None)` for all of them, or `None` if nothing is changed.
    #[expect(clippy::option_option, reason = "two questions: whether, and where")]
    pub fn changed_namespace(&self, session: &Session) -> Option<Option<String>> {
        match self {
            Self::Run(run) if run.0.args.dry_run == DryRun::None => Some(Some(run.1.namespace.name.clone())),
            Self::Cleanup(request) if !request.dry_run => Some(session.namespace.clone()),
            _ => None,
        }
    }

    /// Does the work. Returns its result, and failures beyond those of the result.
    ///
    /// # Errors
    /// Fails if there is no result.
    pub async fn carry_out(
        self,
        session: &Session,
        context: &str,
    ) -> Result<(ClusterResult, Vec<Error>), Error> {
        let result = match self {
            Self::Run(run) => {
                let (request, mut plan) = *run;
                match request.args.dry_run {
                    DryRun::None => {
                        let (result, failures) = attack::attack_cluster(&request, &mut plan, session).await?;
                        return Ok((ClusterResult::Run(Box::new(result)), failures));
                    }
                    DryRun::Client => ClusterResult::Plan(Box::new(dry_run::describe(&plan, session)?)),
                    DryRun::Server => {
                        ClusterResult::Plan(Box::new(dry_run::admit(&mut plan, session).await?))
                    }
                }
            }
            Self::Doctor(check) => {
                let (request, plan) = *check;
                ClusterResult::Doctor(Box::new(doctor::check(&request, plan, session).await?))
            }
            Self::Verify(request) => {
                let found = verify::find(&request, session, Some(context))?;
                ClusterResult::Run(Box::new(verify::judge(&request, found, session).await?))
            }
            Self::Cleanup(request) => {
                ClusterResult::Cleanup(Box::new(cleanup::clean(&request, session).await?))
            }
        };
        Ok((result, vec![]))
    }
}
