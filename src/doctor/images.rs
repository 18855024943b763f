//! Are the images named well, does their name hold still, and has a node them already? Nothing is pulled.

use std::str::FromStr;

use super::look::{Look, Node};
use super::{Checked, Finding, counted};
use crate::plan::Options;

/// A reference to an image, by the grammar of the distribution project (`distribution/reference`):
/// `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// Host and path, complete.
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if tag.is_some_and(|tag| {
            tag.len() > 128 || !tag.starts_with(word) || !tag.chars().all(|c| word(c) || ".-".contains(c))
        }) {
            return Err("the tag may have 128 letters, digits and _.-".to_owned());
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err("the digest has to be sha256: and 64 hexadecimal digits".to_owned());
        }
        // The first part is a host only if it cannot be a path.
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
            _ => (None, name),
        };
        if !path.split('/').all(is_path) || name.len() > 255 {
            return Err(
                "the path may have lower-case letters and digits, with . _ __ or - between them".to_owned(),
            );
        }
        if host.is_some_and(|host| !is_host(host)) {
            return Err("the registry has to be HOST or HOST:PORT".to_owned());
        }
        let name = match host {
            Some(_) => name.to_owned(),
            None if path.contains('/') => format!("docker.io/{path}"),
            None => format!("docker.io/library/{path}"),
        };
        Ok(Self {
            name,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

fn is_digest(digest: &str) -> bool {
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hash| hash.len() == 64 && hash.chars().all(hexadecimal))
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let label = |label: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(inside)
    };
    name.split('.').all(label) && port.parse::<u16>().is_ok()
}

/// Letters and digits, separated by one dot, one or two underscores, or hyphens.
fn is_path(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(plain).filter(|gap| !gap.is_empty());
    let allowed = |gap: &str| matches!(gap, "." | "_" | "__") || gap.chars().all(|c| c == '-');
    part.starts_with(plain) && part.ends_with(plain) && separators.into_iter().all(allowed)
}

impl Reference {
    /// The names under which a node can have it.
    pub fn names(&self) -> Vec<String> {
        let Self { name, tag, digest } = self;
        match digest {
            Some(digest) => vec![format!("{name}@{digest}")],
            None => vec![format!("{name}:{}", tag.as_deref().unwrap_or("latest"))],
        }
    }
}

pub(super) async fn check(look: &Look) -> Checked {
    Ok(judge(&look.plan.options, look.nodes().await.ok()))
}

/// `nodes` where they can be seen. A node lists 50 images at most, so one that is not listed may be there.
fn judge(options: &Options, nodes: Option<&[Node]>) -> Finding {
    let images = [
        ("attacker", &options.attacker_image),
        ("victim", &options.victim_image),
    ];
    let mut told = vec![];
    let (mut moving, mut missing) = (vec![], vec![]);
    for (i, (pod, image)) in images.into_iter().enumerate() {
        let reference = match image.parse::<Reference>() {
            Ok(reference) => reference,
            Err(reason) => {
                return Finding::failed(format!("{image:?} is no reference to an image: {reason}"))
                    .advise(format!("--{pod}-image=HOST/PATH:TAG"));
            }
        };
        let pinned = if reference.digest.is_some() {
            "pinned by its digest"
        } else {
            moving.push(format!("--{pod}-image"));
            "its tag can move"
        };
        let usable = nodes.into_iter().flatten().filter(|node| node.refusal.is_none());
        let on = match (nodes, usable.filter(|node| node.has[i]).count()) {
            (None, _) => "not seen whether a node has it".to_owned(),
            (Some(_), 0) => {
                missing.push(image.as_str());
                "on no node yet".to_owned()
            }
            (Some(_), number) => format!("on {}", counted(number, "node")),
        };
        told.push(format!("{image}: {pinned}, {on}"));
    }
    let told = told.join("; ");
    if options.fit.image_pull_policy.as_deref() == Some("Never") && !missing.is_empty() {
        return Finding::warning(told).advise(format!(
            "--image-pull-policy=Never, and no node lists {} (it lists 50 at most); see: kubectl get nodes -o yaml",
            missing.join(", ")
        ));
    }
    match moving.join(" and ") {
        pins if pins.is_empty() => Finding::ok(told),
        pins => Finding::ok(told).advise(format!(
            "to run the same every time, pin it: {pins} can be NAME@sha256:DIGEST"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::look::RawNode;
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{Failed, Ok as Fine, Warning};

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_read_by_their_grammar() {
        for (text, name) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("a/b", "docker.io/a/b:latest"),
            ("localhost/b:1", "localhost/b:1"),
            (
                "r.example:5000/a/b_c--d.e__f:V1.2-x_y",
                "r.example:5000/a/b_c--d.e__f:V1.2-x_y",
            ),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().names(), [name]);
        }
        let pinned: Reference = format!("x/y:1@{DIGEST}").parse().unwrap();
        assert_eq!(pinned.names(), [format!("docker.io/x/y@{DIGEST}")]);
        for (text, reason) in [
            ("", "path"),
            ("A/b", "path"),
            ("a//b", "path"),
            ("a/b-", "path"),
            ("a/b___c", "path"),
            ("a..b", "path"),
            ("https://r.example/a", "path"),
            ("r.example:x/a", "registry"),
            ("-r.example/a", "registry"),
            ("a:", "tag"),
            ("a:-b", "tag"),
            ("a:b c", "tag"),
            ("a@sha256:12", "digest"),
            (
                "a@md5:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "digest",
            ),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(error.starts_with(&format!("the {reason}")), "{text}: {error}");
        }
    }

    #[test]
    fn names_tags_and_nodes_are_told() {
        let mut options = plan(None).options;
        options.attacker_image = format!("r.example/a@{DIGEST}");
        options.victim_image = format!("r.example/v@{DIGEST}");
        let plan = {
            let mut plan = plan(None);
            plan.options = options.clone();
            plan
        };
        let raw = serde_json::json!({
            "metadata": { "name": "n", "labels": { "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
            "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "images": [{ "names": [options.attacker_image] }, { "names": null }],
            },
        });
        let node = Node::new(serde_json::from_value::<RawNode>(raw).unwrap(), &plan);
        assert_eq!(node.has, [true, false]);
        let nodes = [node];

        let finding = judge(&options, Some(&nodes));
        assert_eq!((finding.status, &finding.advice), (Fine, &None));
        assert!(
            finding.seen.contains("pinned by its digest, on 1 node; "),
            "{finding:?}"
        );
        assert!(finding.seen.ends_with("on no node yet"), "{finding:?}");

        options.fit.image_pull_policy = Some("Never".into());
        assert_eq!(judge(&options, Some(&nodes)).status, Warning);
        let unseen = judge(&options, None);
        assert_eq!(unseen.status, Fine);
        assert!(unseen.seen.contains("not seen whether"), "{unseen:?}");

        options.attacker_image = "r.example/a:1".into();
        let finding = judge(&options, None);
        assert_eq!(finding.status, Fine);
        assert!(finding.seen.contains("its tag can move"), "{finding:?}");
        assert!(finding.advice.unwrap().contains("--attacker-image can be"));

        options.victim_image = "R.example/v:1:2".into();
        let finding = judge(&options, Some(&nodes));
        assert_eq!(finding.status, Failed);
        assert!(finding.advice.unwrap().contains("--victim-image"));
    }
}
