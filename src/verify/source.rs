//! The source of a cluster's alerts: Azure, once the cluster is found there, or a file.

use std::path::Path;

use jiff::Timestamp;

use super::VerifyOptions;
use super::fired::FiredAlert;
use super::matching::Names;
use crate::azure::{Answer, AzureCluster, AzureError, AzureOptions, Located, Saved, Source, locate, plan};
use crate::defender::alerts;
use crate::defender::facts::Fact;
use crate::defender::identity::ClusterIdentity;
use crate::error::Error;
use crate::files;
use crate::result::ClusterInfo;
use crate::yaml;

/// Source of the alerts of a cluster.
pub struct AlertSource {
    source: Source,
    /// ID and name of the cluster in Azure; empty if it is unknown.
    pub(super) cluster: Vec<String>,
    /// Names of alerts that the catalogue lacks.
    pub(super) names: Names,
    /// Whether the plan is on.
    pub(super) plan: Fact,
}

impl AlertSource {
    /// Finds the source of a cluster's alerts. `marks` identify the cluster.
    ///
    /// # Errors
    /// If there is no login, or the cluster cannot be found and no option names it.
    pub async fn find(
        options: &VerifyOptions,
        cluster: &ClusterInfo,
        marks: ClusterIdentity,
    ) -> Result<Self, Error> {
        let names = match &options.alert_names {
            None => Names::new(),
            Some(path) => read_names(path)?,
        };
        let resource_id = options
            .azure
            .resource_id
            .clone()
            .or_else(|| cluster.resource_id.clone());
        if let Some(path) = &options.alerts {
            let cluster = resource_id.map(|id| id.parse::<AzureCluster>()).transpose()?;
            return Ok(Self {
                source: Source::Saved(Saved::from(path.as_path())),
                cluster: cluster.iter().flat_map(names_of).collect(),
                names,
                plan: Fact::Unknown("alerts are read from a file".to_owned()),
            });
        }
        let is_certain = options.azure.certain(&marks);
        let azure = AzureOptions {
            resource_id,
            ..options.azure.clone()
        };
        let Located { arm, search, scope } = locate(&azure, marks).await?;
        let Some(scope) = scope else {
            return Err(Error::AzureClusterNotFound { tried: search.tried });
        };
        let plan = match plan(&arm, scope.subscription(), search.found.as_ref(), is_certain).await {
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
        let source = if options.use_graph {
            Source::Graph(arm, scope)
        } else {
            Source::Alerts(arm, scope)
        };
        Ok(Self {
            source,
            cluster: search.found.iter().flat_map(names_of).collect(),
            names,
            plan,
        })
    }

    /// The cluster's resource ID in Azure, if it is known.
    pub fn resource_id(&self) -> Option<String> {
        self.cluster.first().cloned()
    }

    /// Describes the source: `the alerts API for /subscriptions/...`.
    pub(super) fn description(&self) -> String {
        self.source.to_string()
    }

    /// Reads the alerts once and discards them, to detect obstacles before a run. Skips a pipe, which can be read only
    /// once.
    ///
    /// # Errors
    /// If alerts cannot be read.
    pub async fn try_read(&self) -> Result<(), Error> {
        if matches!(&self.source, Source::Saved(saved) if !saved.is_plain()) {
            return Ok(());
        }
        self.source.alerts(Timestamp::now(), drop).await?;
        Ok(())
    }

    /// Passes every alert since a time to `each`.
    pub(super) async fn read(
        &self,
        since: Timestamp,
        each: impl FnMut(FiredAlert),
    ) -> Result<Answer, AzureError> {
        self.source.alerts(since, each).await
    }

    /// Whether to read the source again: a file only if the user asks to wait for it.
    pub(super) fn can_change(&self, options: &VerifyOptions) -> bool {
        match &self.source {
            Source::Saved(saved) => options.wait.is_some() && saved.is_plain(),
            Source::Alerts(..) | Source::Graph(..) => true,
        }
    }

    /// Why the last answer before `end` need not have every alert of the run.
    pub(super) fn gap(&self, answer: Answer, end: Timestamp) -> Option<String> {
        if !answer.whole {
            return Some("the alerts read are one page of several".to_owned());
        }
        let Source::Saved(saved) = &self.source else {
            return None;
        };
        let saved_at = saved.changed().unwrap_or_else(Timestamp::now);
        (saved_at < end).then(|| {
            format!("the alerts were saved at {saved_at:.0}, and more may have been raised until {end:.0}")
        })
    }

    /// Refuses a saved list without an alert: it may be anything and proves nothing.
    pub(super) fn refuse_empty(&self, answer: Answer) -> Option<Error> {
        let Source::Saved(saved) = &self.source else {
            return None;
        };
        (answer.alerts == 0).then(|| Error::NoAlertsSaved {
            file: saved.to_string(),
            others: answer.others,
        })
    }
}

/// Reads a file with further names of alerts.
fn read_names(path: &Path) -> Result<Names, Error> {
    let refuse = |reason: String| Error::AlertNamesInvalid {
        file: files::shown(path),
        reason,
    };
    let text = files::read_text(path).map_err(|error| refuse(error.to_string()))?;
    let names = yaml::parse(&text, |_| None).map_err(|mistake| refuse(mistake.to_string()))?;
    let names: Names = names.unwrap_or_default();
    match names.keys().find_map(|id| alerts::get(id).err()) {
        Some(cause) => Err(refuse(cause)),
        None => Ok(names),
    }
}

fn names_of(cluster: &AzureCluster) -> [String; 2] {
    [cluster.id.clone(), cluster.name.clone()]
}
