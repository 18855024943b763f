//! Detects clusters that look like production. Only names and labels are known, so this is a guess on the safe side: it
//! can stop a run, but never start one.

/// Words that indicate production, unless the user configures others.
pub const WORDS: [&str; 4] = ["prod", "production", "prd", "live"];

/// Last parts of label keys that indicate the purpose of a cluster.
const KEYS: [&str; 5] = ["env", "environment", "stage", "tier", "lifecycle"];
/// Words that negate the word after them.
const NEGATIONS: [&str; 3] = ["non", "not", "pre"];

/// Returns `true` if a namespace belongs to the cluster itself or to a platform component. Most policies exclude such
/// namespaces, and no run belongs there.
///
/// ```
/// use defender_sim::guard::is_system_namespace;
/// assert!(is_system_namespace("kube-system") && is_system_namespace("openshift-ingress"));
/// assert!(!is_system_namespace("default") && !is_system_namespace("kubernetes-training"));
/// ```
pub fn is_system_namespace(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "aks-command",
        "app-routing-system",
        "calico-apiserver",
        "calico-system",
        "cattle-system",
        "gatekeeper-system",
        "istio-system",
        "mdc",
        "openshift",
        "tigera-operator",
    ];
    const PREFIXES: [&str; 6] = ["kube-", "openshift-", "azure-", "gke-", "gmp-", "amazon-"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A label of an object in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Kind and name of the object.
    pub object: String,
    /// Key of the label.
    pub key: String,
    /// Value of the label.
    pub value: String,
}

/// Returns a sentence on why a cluster looks like production, or `None` if nothing indicates it. `names` are pairs of a
/// kind of name and the name.
///
/// ```
/// use defender_sim::guard::{WORDS, production_sign};
/// let words = WORDS.map(String::from);
/// assert_eq!(
///     production_sign(&words, &[("context", "aks-prod-weu")], &[]).as_deref(),
///     Some(r#"the context "aks-prod-weu" has the word "prod" in its name"#)
/// );
/// assert_eq!(production_sign(&words, &[("context", "nonprod"), ("cluster", "products")], &[]), None);
/// ```
pub fn production_sign(words: &[String], names: &[(&str, &str)], labels: &[Label]) -> Option<String> {
    let by_name = names.iter().find_map(|(what, name)| {
        let word = word_in(words, name)?;
        Some(format!("the {what} {name:?} has the word {word:?} in its name"))
    });
    by_name.or_else(|| {
        labels.iter().find_map(|label| {
            let key = label.key.rsplit('/').next().unwrap_or_default().to_lowercase();
            let word = word_in(words, &label.value).filter(|_| KEYS.contains(&key.as_str()))?;
            let Label { object, key, value } = label;
            Some(format!(
                "{object} has the label {key}={value}, with the word {word:?}"
            ))
        })
    })
}

/// Returns the first of `words` whose parts are consecutive parts of `text`. A number may follow each part.
fn word_in<'a>(words: &'a [String], text: &str) -> Option<&'a str> {
    let parts = parts(text);
    let is = |part: &String, of_word: &String| {
        part == of_word || part.trim_end_matches(|c: char| c.is_ascii_digit()) == of_word
    };
    let stands = |word: &&String| {
        let of_word = self::parts(word);
        !of_word.is_empty()
            && parts.windows(of_word.len()).enumerate().any(|(i, window)| {
                let negated = i > 0 && NEGATIONS.contains(&parts[i - 1].as_str());
                !negated
                    && window
                        .iter()
                        .zip(&of_word)
                        .all(|(part, of_word)| is(part, of_word))
            })
    };
    words.iter().find(stands).map(String::as_str)
}

fn parts(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(words: &[&str], name: &str, label: (&str, &str)) -> bool {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let label = Label {
            object: "node/n".into(),
            key: label.0.into(),
            value: label.1.into(),
        };
        production_sign(&words, &[("context", name)], &[label]).is_some()
    }

    #[test]
    fn names_and_labels_that_look_like_production() {
        let none = ("a", "b");
        for name in [
            "prod",
            "PROD",
            "eu_prd_1",
            "aks.production",
            "arn:aws:eks:x:1:cluster/live",
            "prod01-admin",
        ] {
            assert!(sign(&WORDS, name, none), "{name}");
        }
        for name in [
            "",
            "product",
            "preprod",
            "pre-prod",
            "non-prod",
            "reproduction",
            "delivery",
        ] {
            assert!(!sign(&WORDS, name, none), "{name}");
        }
        assert!(sign(&WORDS, "x", ("company.example/environment", "Production")));
        assert!(!sign(&WORDS, "x", ("environment", "test")));
        assert!(
            !sign(&WORDS, "x", ("name", "prod")),
            "only keys that say what it is for"
        );
        assert!(sign(&["kunden"], "kunden-1", none));
        assert!(!sign(&["kunden"], "prod", none), "the user's words replace ours");
        assert!(sign(&["core-live"], "eu-core-live-2", none));
        assert!(!sign(&["core-live"], "core-test-live", none));
        assert!(sign(&["p01"], "aks-p01", none));
        assert!(!sign(&["p01"], "aks-p1", none));
        assert!(
            !sign(&["", "-"], "https://any.example", none),
            "no word is no sign"
        );
        assert!(!sign(&[], "prod", none));
    }
}
