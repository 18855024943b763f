//! Would the API server take the objects of a run? It is shown each and keeps none, so Pod Security, webhooks
//! and policies have their say.

use super::look::Look;
use super::{Checked, Finding};
use crate::engine;
use crate::result::{Admission, PlannedObject};
use crate::words::{counted, first_few};

pub(super) async fn check(look: &Look) -> Checked {
    let name = &look.plan.namespace.name;
    let absent = match look.namespace().await? {
        None => true,
        Some(found) if found.terminating => {
            return Ok(Finding::not_told(format!(
                "namespace {name} is being removed, and takes nothing"
            )));
        }
        Some(_) => false,
    };
    if look.anchor().await?.is_some() {
        return Ok(Finding::not_told(format!(
            "namespace {name} holds the objects of another run, under the same names"
        )));
    }
    match engine::admit_all(&look.cluster, &look.plan, None, absent).await {
        Ok(objects) => Ok(judge(&objects, name, absent)),
        Err(problem) => {
            let told = Finding::not_told(problem.message);
            Ok(problem.hint.into_iter().fold(told, Finding::advise))
        }
    }
}

/// The first object is the namespace, which is only shown where it is to be made.
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
        return Finding::not_told(format!(
            "namespace {namespace} does not exist, and the API server admits nothing to it yet"
        ))
        .advise("to know before a run, make one with the policies it will have, and name it with -n");
    }
    let untold: Vec<String> = objects[1..]
        .iter()
        .filter_map(|object| match &object.admission {
            Some(Admission::NotTold(reason)) => Some(format!("{}: {reason}", object.name)),
            _ => None,
        })
        .collect();
    if untold.is_empty() {
        return Finding::ok(format!(
            "all {} admitted in a dry run",
            counted(objects.len() - 1, "object")
        ));
    }
    Finding::not_told(first_few(&untold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::CheckStatus::{CouldNotTell, Failed, Ok};

    #[test]
    fn one_refusal_is_enough() {
        let refused = || Admission::Refused("violates".into());
        let untold = || Admission::NotTold("does not support dry run".into());
        for (verdicts, absent, status, said) in [
            (
                [untold(), Admission::Admitted, Admission::Admitted],
                false,
                Ok,
                "all 2 objects admitted",
            ),
            (
                [untold(), refused(), refused()],
                false,
                Failed,
                "refused: 1: violates (and 1 other object)",
            ),
            (
                [untold(), untold(), refused()],
                false,
                Failed,
                "refused: 2: violates",
            ),
            (
                [untold(), Admission::Admitted, untold()],
                false,
                CouldNotTell,
                "2: does not support dry run",
            ),
            (
                [Admission::Admitted, untold(), untold()],
                true,
                CouldNotTell,
                "does not exist",
            ),
            (
                [refused(), untold(), untold()],
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
                finding.seen.starts_with(said) || finding.seen.contains("does not exist"),
                "{finding:?}"
            );
        }
    }
}
