//! Checks that the images of a run can be pulled: valid references, present in their registry or on the nodes, and pinned.
//! Nothing is pulled.

use futures::future::join_all;
use futures::join;

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::net::registry::{Presence, Reference, Registry};
use crate::node::Node;
use crate::plan::Options;
use crate::result::CheckStatus;
use crate::words::counted;

/// An image of a run.
struct Image<'a> {
    /// `attacker` or `victim`.
    pod: &'static str,
    given: &'a str,
    reference: Reference,
}

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let options = &snapshot.plan.options;
    let images = parse(options)?;
    if options.fit.image_pull_policy.as_deref() == Some("Never") {
        return Ok(judge_unpulled(&images, snapshot.nodes().await.ok()));
    }
    let registry = Registry::from_process();
    let ask = |image: &Image| {
        let (registry, reference) = (registry.clone(), image.reference.clone());
        async move {
            match registry {
                Ok(registry) => registry.find(&reference).await,
                Err(error) => Presence::Unknown(error.message),
            }
        }
    };
    let (nodes, presence) = join!(snapshot.nodes(), join_all(images.iter().map(ask)));
    Ok(judge(&images, &presence, options, nodes.ok()))
}

/// Parses the references of both images.
fn parse(options: &Options) -> Result<[Image<'_>; 2], Finding> {
    let parse = |pod, given| match str::parse::<Reference>(given) {
        Ok(reference) => Ok(Image {
            pod,
            given,
            reference,
        }),
        Err(reason) => Err(
            Finding::failed(format!("{given:?} is not a valid image reference: {reason}")).advise(format!(
                "--{pod}-image=HOST/PATH:TAG, in lower case except for the tag"
            )),
        ),
    };
    Ok([
        parse("attacker", &options.attacker_image)?,
        parse("victim", &options.victim_image)?,
    ])
}

/// Returns how many of the nodes that take the pods list the image at `i`, and how many there are. Returns `None` if nodes
/// cannot be listed. A node lists 50 images at most, so it may have one that it does not list.
fn count_nodes(nodes: Option<&[Node]>, i: usize) -> Option<(usize, usize)> {
    let usable = || nodes.into_iter().flatten().filter(|node| node.refusal.is_none());
    nodes.map(|_| (usable().filter(|node| node.has[i]).count(), usable().count()))
}

fn format_nodes(counts: Option<(usize, usize)>) -> String {
    match counts {
        None => "unknown whether a node has it".to_owned(),
        Some((0, _)) => "on no node yet".to_owned(),
        Some((number, of)) if number < of => format!("on {number} of {of} nodes"),
        Some((number, _)) => format!("on {}", counted(number, "node")),
    }
}

/// Joins the descriptions of the images; equal ones are merged.
fn join_descriptions(images: &[Image], descriptions: &[String]) -> String {
    let mut groups: Vec<(Vec<&str>, &String)> = vec![];
    for (image, description) in images.iter().zip(descriptions) {
        match groups.iter_mut().find(|(_, same)| *same == description) {
            Some((names, _)) => names.push(image.given),
            None => groups.push((vec![image.given], description)),
        }
    }
    let groups: Vec<String> = groups
        .iter()
        .map(|(names, description)| format!("{}: {description}", names.join(", ")))
        .collect();
    groups.join("; ")
}

/// Judges images that are never pulled: nodes must have them.
fn judge_unpulled(images: &[Image], nodes: Option<&[Node]>) -> Finding {
    let mut descriptions = vec![];
    let (mut status, mut missing, mut rare) = (CheckStatus::Ok, vec![], vec![]);
    for (i, image) in images.iter().enumerate() {
        let counts = count_nodes(nodes, i);
        descriptions.push(format!("never pulled, {}", format_nodes(counts)));
        match counts {
            Some((0, _)) => missing.push(image.given),
            Some((with, of)) if with < of => rare.push(image.given),
            Some(_) => {}
            None => status = CheckStatus::Unknown,
        }
    }
    let message = join_descriptions(images, &descriptions);
    let unlisted = if !missing.is_empty() {
        format!("no node lists {} (it lists 50 at most)", missing.join(", "))
    } else if !rare.is_empty() {
        let rare = rare.join(", ");
        format!(
            "not every node lists {rare} (it lists 50 at most): choose those that do with --node-selector"
        )
    } else {
        return Finding::new(status, message);
    };
    Finding::warning(message).suggest(
        format!("--image-pull-policy=Never, and {unlisted}; see"),
        ["get", "nodes", "-o", "yaml"],
    )
}

fn judge(images: &[Image], presence: &[Presence], options: &Options, nodes: Option<&[Node]>) -> Finding {
    let mut descriptions = vec![];
    let mut problems = vec![];
    let mut mutable = vec![];
    for (i, (image, presence)) in images.iter().zip(presence).enumerate() {
        let Image {
            pod,
            given,
            reference,
        } = image;
        let counts = count_nodes(nodes, i);
        let in_registry = match presence {
            Presence::Present => "the registry has it".to_owned(),
            Presence::Absent => "the registry has no such image".to_owned(),
            Presence::Private => "the registry asks for a login".to_owned(),
            Presence::Unknown(reason) => format!("no answer from the registry ({reason})"),
        };
        let pinned = if reference.digest().is_some() {
            "pinned by its digest"
        } else {
            mutable.push(format!("--{pod}-image"));
            "mutable tag"
        };
        descriptions.push(format!("{in_registry}, {}, {pinned}", format_nodes(counts)));

        // The default of Kubernetes (its documentation on images).
        let by_default = match reference.tag() {
            Some("latest") => "Always",
            _ => "IfNotPresent",
        };
        let policy = options.fit.image_pull_policy.as_deref().unwrap_or(by_default);
        // Nodes that do not need the registry.
        let (with, of) = match policy {
            "Always" => (0, counts.map_or(0, |(_, of)| of)),
            _ => counts.unwrap_or_default(),
        };
        let compare = format!("compare with: docker manifest inspect {given}");
        problems.extend(match presence {
            Presence::Present => None,
            Presence::Absent if with == 0 => {
                Some((CheckStatus::Failed, format!("check --{pod}-image; {compare}")))
            }
            Presence::Absent => Some((
                CheckStatus::Warning,
                format!("a node that does not have {given} cannot get it; {compare}"),
            )),
            Presence::Private | Presence::Unknown(_) if with > 0 && with == of => None,
            Presence::Private => Some((
                CheckStatus::Unknown,
                format!("checked without a login; check with yours: docker manifest inspect {given}"),
            )),
            Presence::Unknown(_) => Some((
                CheckStatus::Unknown,
                format!("nodes may reach it in another way; {compare}"),
            )),
        });
    }
    let message = join_descriptions(images, &descriptions);
    let worst = [CheckStatus::Failed, CheckStatus::Warning, CheckStatus::Unknown]
        .into_iter()
        .find_map(|status| problems.iter().find(|(found, _)| *found == status));
    match (worst, mutable.join(" and ")) {
        (Some((status, advice)), _) => Finding::new(*status, message).advise(advice),
        (None, pins) if pins.is_empty() => Finding::ok(message),
        (None, pins) => {
            Finding::ok(message).advise(format!("for reproducible runs, pin {pins} to NAME@sha256:DIGEST"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{RawNode, image_names};
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{Failed, Ok as Fine, Unknown, Warning};

    fn digest() -> String {
        format!("sha256:{}", "0".repeat(64))
    }

    #[test]
    fn invalid_reference_is_reported_with_its_option() {
        for image in [
            "",
            "a/B",
            "a//b",
            "a/b-",
            "https://r.example/a",
            "a:",
            "a:b c",
            "a@sha256:12",
        ] {
            let mut options = plan(None).options;
            options.victim_image = image.to_owned();
            let finding = parse(&options).err().unwrap();
            assert_eq!(finding.status, Failed, "{image}");
            assert!(finding.advice.unwrap().starts_with("--victim-image="), "{image}");
        }
    }

    /// Nodes that list the attacker's image and the victim's as given.
    fn nodes(options: &Options, has: &[[bool; 2]]) -> Vec<Node> {
        let names = image_names(options);
        let node = |has: &[bool; 2]| {
            let had = names.iter().zip(has).filter(|(_, has)| **has);
            let mut images: Vec<_> = had
                .map(|(name, _)| serde_json::json!({ "names": [name] }))
                .collect();
            images.push(serde_json::json!({ "names": null }));
            let raw = serde_json::json!({
                "metadata": { "name": "n", "labels": { "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
                "status": {
                    "conditions": [{ "type": "Ready", "status": "True" }],
                    "images": images,
                },
            });
            Node::new(serde_json::from_value::<RawNode>(raw).unwrap(), options, &names)
        };
        let nodes: Vec<Node> = has.iter().map(node).collect();
        assert_eq!(nodes.iter().map(|node| node.has).collect::<Vec<_>>(), has);
        nodes
    }

    #[test]
    fn registry_nodes_and_pull_policy_are_combined() {
        use Presence::{Absent, Present, Private};
        let silent = || Presence::Unknown("it did not answer within 2 s".to_owned());
        let (all, some, none) = ([[true; 2]; 2], [[true; 2], [true, false]], [[true, false]; 2]);
        // For the victim's image, whose tag is `latest`; the attacker's is present and on every node.
        for (policy, presence, has, status, advice) in [
            (
                None,
                Present,
                &none[..],
                Fine,
                "pin --attacker-image and --victim-image",
            ),
            (None, Absent, &none[..], Failed, "check --victim-image"),
            (None, Private, &none[..], Unknown, "checked without a login"),
            (None, silent(), &none[..], Unknown, "nodes may reach it"),
            // Pulled at each start.
            (None, Absent, &all[..], Failed, "check --victim-image"),
            (None, silent(), &all[..], Unknown, "nodes may reach it"),
            (Some("IfNotPresent"), Present, &none[..], Fine, "pin "),
            (Some("IfNotPresent"), Absent, &all[..], Warning, "cannot get it"),
            (Some("IfNotPresent"), Absent, &some[..], Warning, "cannot get it"),
            (
                Some("IfNotPresent"),
                Absent,
                &none[..],
                Failed,
                "check --victim-image",
            ),
            (Some("IfNotPresent"), Private, &all[..], Fine, "pin "),
            (
                Some("IfNotPresent"),
                Private,
                &some[..],
                Unknown,
                "checked without a login",
            ),
            (
                Some("IfNotPresent"),
                silent(),
                &none[..],
                Unknown,
                "nodes may reach it",
            ),
            (Some("IfNotPresent"), silent(), &[], Unknown, "nodes may reach it"),
        ] {
            let mut options = plan(None).options;
            options.fit.image_pull_policy = policy.map(str::to_owned);
            let nodes = nodes(&options, has);
            let case = format!("{policy:?} {presence:?} {has:?}");
            let finding = judge(
                &parse(&options).ok().unwrap(),
                &[Present, presence],
                &options,
                Some(&nodes),
            );
            assert_eq!(finding.status, status, "{case}: {finding:?}");
            assert!(
                finding.advice.as_ref().unwrap().contains(advice),
                "{case}: {finding:?}"
            );
        }
    }

    #[test]
    fn pinned_image_needs_no_advice() {
        let mut options = plan(None).options;
        options.attacker_image = format!("r.example/a@{}", digest());
        options.victim_image = format!("r.example/v@{}", digest());
        let images = parse(&options).ok().unwrap();
        let finding = judge(&images, &[Presence::Present, Presence::Present], &options, None);
        assert_eq!((finding.status, &finding.advice), (Fine, &None));
        let present = "the registry has it, unknown whether a node has it, pinned by its digest";
        let (attacker, victim) = (&options.attacker_image, &options.victim_image);
        assert_eq!(finding.message, format!("{attacker}, {victim}: {present}"));
        let finding = judge(&images, &[Presence::Absent, Presence::Present], &options, None);
        let absent = "the registry has no such image, unknown whether a node has it, pinned by its digest";
        assert_eq!(
            finding.message,
            format!("{attacker}: {absent}; {victim}: {present}")
        );

        assert_eq!(judge_unpulled(&images, None).status, Unknown);
        assert_eq!(
            judge_unpulled(&images, Some(&nodes(&options, &[[true, true]]))).status,
            Fine
        );
        let some = nodes(&options, &[[true, true], [true, false], [true, true]]);
        let finding = judge_unpulled(&images, Some(&some));
        assert_eq!(finding.status, Warning);
        assert!(
            finding.message.ends_with("never pulled, on 2 of 3 nodes"),
            "{finding:?}"
        );
        assert!(finding.advice.unwrap().contains("--node-selector"));
        let finding = judge_unpulled(&images, Some(&nodes(&options, &[[true, false]])));
        assert_eq!(finding.status, Warning);
        assert!(
            finding
                .advice
                .unwrap()
                .contains("no node lists r.example/v@sha256:")
        );
    }
}
