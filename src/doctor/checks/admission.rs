//! Checks that the API server admits the objects of a run, with a server-side dry run: Pod Security, webhooks, policies,
//! limit ranges and quotas are evaluated.

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::engine;
use crate::result::{Admission, PlannedObject};
use crate::words::{counted, first_few};

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = &snapshot.plan.namespace.name;
    let absent = match snapshot.namespace().await? {
        None => true,
        Some(found) if found.terminating => {
            return Ok(Finding::unknown(format!(
                "namespace {name} is being deleted and accepts no objects"
            )));
        }
        Some(_) => false,
    };
    if snapshot.anchor().await?.is_some() {
        return Ok(Finding::unknown(format!(
            "namespace {name} has the objects of another run, with the same names"
        )));
    }
    let objects = engine::admit_all(&snapshot.cluster, &snapshot.plan, None, absent).await?;
    Ok(judge(&objects, name, absent))
}

/// Judges the answers. The first object is the namespace, which is submitted only if it has to be created.
fn judge(objects: &[PlannedObject], namespace: &str, absent: bool) -> Finding {
    let refused: Vec<String> = objects
        .iter()
        .filter_map(|object| match &object.admission {
            Some(Admission::Refused(reason)) => Some(format!("{}: {reason}", object.name)),
            _ => None,
        })
        .collect();
    if let Some(first) = refused.first() {
        let more = match refused.len() - 1 {
            0 => String::new(),
            more => format!(" (and {})", counted(more, "other object")),
        };
        return Finding::failed(format!("refused: {first}{more}")).suggest(
            "all verdicts",
            ["defender-sim", "all", "-n", namespace, "--dry-run=server"],
        );
    }
    if absent {
        return Finding::unknown(format!(
            "namespace {namespace} does not exist yet, so objects in it cannot be submitted"
        ))
        .advise("to check before a run, create a namespace with the same policies and name it with -n");
    }
    let unknown: Vec<String> = objects[1..]
        .iter()
        .filter_map(|object| match &object.admission {
            Some(Admission::NotAsked(reason)) => Some(format!("{}: {reason}", object.name)),
            _ => None,
        })
        .collect();
    if unknown.is_empty() {
        return Finding::ok(format!(
            "all {} admitted in a dry run",
            counted(objects.len() - 1, "object")
        ));
    }
    Finding::unknown(first_few(&unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::CheckStatus::{Failed, Ok, Unknown};

    #[test]
    fn one_refusal_fails_the_check() {
        let refused = || Admission::Refused("violates".into());
        let unknown = || Admission::NotAsked("does not support dry run".into());
        for (verdicts, absent, status, start) in [
            (
                [unknown(), Admission::Admitted, Admission::Admitted],
                false,
                Ok,
                "all 2 objects admitted",
            ),
            (
                [unknown(), refused(), refused()],
                false,
                Failed,
                "refused: 1: violates (and 1 other object)",
            ),
            (
                [unknown(), unknown(), refused()],
                false,
                Failed,
                "refused: 2: violates",
            ),
            (
                [unknown(), Admission::Admitted, unknown()],
                false,
                Unknown,
                "2: does not support dry run",
            ),
            (
                [Admission::Admitted, unknown(), unknown()],
                true,
                Unknown,
                "does not exist",
            ),
            (
                [refused(), unknown(), unknown()],
                true,
                Failed,
                "refused: 0: violates",
            ),
        ] {
            let object = |(i, admission): (usize, Admission)| PlannedObject {
                name: i.to_string(),
                admission: Some(admission),
            };
            let objects: Vec<_> = verdicts.into_iter().enumerate().map(object).collect();
            let finding = judge(&objects, "n", absent);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(
                finding.message.starts_with(start) || finding.message.contains("does not exist"),
                "{finding:?}"
            );
        }
    }
}
