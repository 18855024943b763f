//! Can the images be had: are they named well, does their registry have them, has a node them already, and
//! does their name hold still? Nothing is pulled.

use futures::future::join_all;
use futures::join;

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::node::Node;
use crate::doctor::snapshot::Snapshot;
use crate::net::registry::{Presence, Reference, Registry};
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
    let images = read(options)?;
    if options.fit.image_pull_policy.as_deref() == Some("Never") {
        return Ok(never(&images, snapshot.nodes().await.ok()));
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

/// Both images by the grammar of references.
fn read(options: &Options) -> Result<[Image<'_>; 2], Finding> {
    let read = |pod, given| match str::parse::<Reference>(given) {
        Ok(reference) => Ok(Image {
            pod,
            given,
            reference,
        }),
        Err(reason) => Err(
            Finding::failed(format!("{given:?} is no reference to an image: {reason}")).advise(format!(
                "--{pod}-image=HOST/PATH:TAG, all but the tag in lower case"
            )),
        ),
    };
    Ok([
        read("attacker", &options.attacker_image)?,
        read("victim", &options.victim_image)?,
    ])
}

/// Of the nodes that may take the pods, how many have the image at `i`, and how many there are; nothing
/// where nodes cannot be seen. A node lists 50 images at most, so one that is not listed may be there.
fn having(nodes: Option<&[Node]>, i: usize) -> Option<(usize, usize)> {
    let usable = || nodes.into_iter().flatten().filter(|node| node.refusal.is_none());
    nodes.map(|_| (usable().filter(|node| node.has[i]).count(), usable().count()))
}

fn on(having: Option<(usize, usize)>) -> String {
    match having {
        None => "not seen whether a node has it".to_owned(),
        Some((0, _)) => "on no node yet".to_owned(),
        Some((number, of)) if number < of => format!("on {number} of {of} nodes"),
        Some((number, _)) => format!("on {}", counted(number, "node")),
    }
}

/// What is `told` of each image, once where it is the same of all.
fn of_each(images: &[Image], told: &[String]) -> String {
    let mut of_each: Vec<(Vec<&str>, &String)> = vec![];
    for (image, told) in images.iter().zip(told) {
        match of_each.iter_mut().find(|(_, same)| *same == told) {
            Some((names, _)) => names.push(image.given),
            None => of_each.push((vec![image.given], told)),
        }
    }
    let of_each = of_each.iter();
    let of_each = of_each.map(|(names, told)| format!("{}: {told}", names.join(", ")));
    of_each.collect::<Vec<_>>().join("; ")
}

/// Where images are not pulled, nodes must have them.
fn never(images: &[Image], nodes: Option<&[Node]>) -> Finding {
    let mut told = vec![];
    let (mut status, mut missing, mut rare) = (CheckStatus::Ok, vec![], vec![]);
    for (i, image) in images.iter().enumerate() {
        let having = having(nodes, i);
        told.push(format!("never pulled, {}", on(having)));
        match having {
            Some((0, _)) => missing.push(image.given),
            Some((with, of)) if with < of => rare.push(image.given),
            Some(_) => {}
            None => status = CheckStatus::CouldNotTell,
        }
    }
    let told = of_each(images, &told);
    let lacking = if !missing.is_empty() {
        format!("no node lists {} (it lists 50 at most)", missing.join(", "))
    } else if !rare.is_empty() {
        let rare = rare.join(", ");
        format!(
            "not every node lists {rare} (it lists 50 at most): choose those that do with --node-selector"
        )
    } else {
        return Finding::new(status, told);
    };
    Finding::warning(told).suggest(
        format!("--image-pull-policy=Never, and {lacking}; see"),
        ["get", "nodes", "-o", "yaml"],
    )
}

fn judge(images: &[Image], presence: &[Presence], options: &Options, nodes: Option<&[Node]>) -> Finding {
    let mut told = vec![];
    let mut problems = vec![];
    let mut moving = vec![];
    for (i, (image, presence)) in images.iter().zip(presence).enumerate() {
        let Image {
            pod,
            given,
            reference,
        } = image;
        let having = having(nodes, i);
        let said = match presence {
            Presence::Present => "the registry has it".to_owned(),
            Presence::Absent => "the registry has no such image".to_owned(),
            Presence::Private => "the registry asks for a login".to_owned(),
            Presence::Unknown(reason) => format!("the registry does not tell ({reason})"),
        };
        let pinned = if reference.digest().is_some() {
            "pinned by its digest"
        } else {
            moving.push(format!("--{pod}-image"));
            "its tag can move"
        };
        told.push(format!("{said}, {}, {pinned}", on(having)));

        // What the cluster does where nothing is said (the documentation of Kubernetes on images).
        let by_default = match reference.tag() {
            Some("latest") => "Always",
            _ => "IfNotPresent",
        };
        let policy = options.fit.image_pull_policy.as_deref().unwrap_or(by_default);
        // How many nodes need no registry.
        let (with, of) = match policy {
            "Always" => (0, having.map_or(0, |(_, of)| of)),
            _ => having.unwrap_or_default(),
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
                CheckStatus::CouldNotTell,
                format!("no login is used here; with yours: docker manifest inspect {given}"),
            )),
            Presence::Unknown(_) => Some((
                CheckStatus::CouldNotTell,
                format!("nodes may have another way to it; {compare}"),
            )),
        });
    }
    let told = of_each(images, &told);
    let worst = [
        CheckStatus::Failed,
        CheckStatus::Warning,
        CheckStatus::CouldNotTell,
    ]
    .into_iter()
    .find_map(|status| problems.iter().find(|(found, _)| *found == status));
    match (worst, moving.join(" and ")) {
        (Some((status, advice)), _) => Finding::new(*status, told).advise(advice),
        (None, pins) if pins.is_empty() => Finding::ok(told),
        (None, pins) => Finding::ok(told).advise(format!(
            "to run the same every time, pin it: {pins} can be NAME@sha256:DIGEST"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::node::{RawNode, image_names};
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{CouldNotTell, Failed, Ok as Fine, Warning};

    fn digest() -> String {
        format!("sha256:{}", "0".repeat(64))
    }

    #[test]
    fn what_is_no_reference_is_named_with_its_option() {
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
            let finding = read(&options).err().unwrap();
            assert_eq!(finding.status, Failed, "{image}");
            assert!(finding.advice.unwrap().starts_with("--victim-image="), "{image}");
        }
    }

    /// Nodes that have the attacker's image and the victim's, as said.
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
            Node::new(
                serde_json::from_value::<RawNode>(raw).unwrap(),
                &options.fit,
                &names,
            )
        };
        let nodes: Vec<Node> = has.iter().map(node).collect();
        assert_eq!(nodes.iter().map(|node| node.has).collect::<Vec<_>>(), has);
        nodes
    }

    #[test]
    fn registries_nodes_and_the_policy_are_weighed() {
        use Presence::{Absent, Present, Private};
        let silent = || Presence::Unknown("it did not answer within 2 s".to_owned());
        let (all, some, none) = ([[true; 2]; 2], [[true; 2], [true, false]], [[true, false]; 2]);
        // Of the victim's image, whose tag is `latest`; the attacker's is present and on every node.
        for (policy, said, has, status, advice) in [
            (
                None,
                Present,
                &none[..],
                Fine,
                "pin it: --attacker-image and --victim-image",
            ),
            (None, Absent, &none[..], Failed, "check --victim-image"),
            (None, Private, &none[..], CouldNotTell, "no login is used here"),
            (
                None,
                silent(),
                &none[..],
                CouldNotTell,
                "nodes may have another way",
            ),
            // Asked again at each start.
            (None, Absent, &all[..], Failed, "check --victim-image"),
            (
                None,
                silent(),
                &all[..],
                CouldNotTell,
                "nodes may have another way",
            ),
            (Some("IfNotPresent"), Present, &none[..], Fine, "pin it"),
            (Some("IfNotPresent"), Absent, &all[..], Warning, "cannot get it"),
            (Some("IfNotPresent"), Absent, &some[..], Warning, "cannot get it"),
            (
                Some("IfNotPresent"),
                Absent,
                &none[..],
                Failed,
                "check --victim-image",
            ),
            (Some("IfNotPresent"), Private, &all[..], Fine, "pin it"),
            (
                Some("IfNotPresent"),
                Private,
                &some[..],
                CouldNotTell,
                "no login is used here",
            ),
            (
                Some("IfNotPresent"),
                silent(),
                &none[..],
                CouldNotTell,
                "nodes may have another way",
            ),
            (
                Some("IfNotPresent"),
                silent(),
                &[],
                CouldNotTell,
                "nodes may have another way",
            ),
        ] {
            let mut options = plan(None).options;
            options.fit.image_pull_policy = policy.map(str::to_owned);
            let nodes = nodes(&options, has);
            let told = format!("{policy:?} {said:?} {has:?}");
            let finding = judge(
                &read(&options).ok().unwrap(),
                &[Present, said],
                &options,
                Some(&nodes),
            );
            assert_eq!(finding.status, status, "{told}: {finding:?}");
            assert!(
                finding.advice.as_ref().unwrap().contains(advice),
                "{told}: {finding:?}"
            );
        }
    }

    #[test]
    fn what_is_pinned_needs_no_advice_and_what_is_not_seen_is_said() {
        let mut options = plan(None).options;
        options.attacker_image = format!("r.example/a@{}", digest());
        options.victim_image = format!("r.example/v@{}", digest());
        let images = read(&options).ok().unwrap();
        let finding = judge(&images, &[Presence::Present, Presence::Present], &options, None);
        assert_eq!((finding.status, &finding.advice), (Fine, &None));
        let told = "the registry has it, not seen whether a node has it, pinned by its digest";
        let (attacker, victim) = (&options.attacker_image, &options.victim_image);
        assert_eq!(finding.message, format!("{attacker}, {victim}: {told}"));
        let finding = judge(&images, &[Presence::Absent, Presence::Present], &options, None);
        let absent = "the registry has no such image, not seen whether a node has it, pinned by its digest";
        assert_eq!(finding.message, format!("{attacker}: {absent}; {victim}: {told}"));

        assert_eq!(never(&images, None).status, CouldNotTell);
        assert_eq!(
            never(&images, Some(&nodes(&options, &[[true, true]]))).status,
            Fine
        );
        let some = nodes(&options, &[[true, true], [true, false], [true, true]]);
        let finding = never(&images, Some(&some));
        assert_eq!(finding.status, Warning);
        assert!(
            finding.message.ends_with("never pulled, on 2 of 3 nodes"),
            "{finding:?}"
        );
        assert!(finding.advice.unwrap().contains("--node-selector"));
        let finding = never(&images, Some(&nodes(&options, &[[true, false]])));
        assert_eq!(finding.status, Warning);
        assert!(
            finding
                .advice
                .unwrap()
                .contains("no node lists r.example/v@sha256:")
        );
    }
}
