//! Builds the `kubectl` commands of hints: quoted for a POSIX shell, with the connection flags of this call.

use std::borrow::Cow;

use crate::untrusted;

/// A connection flag of kubectl: the name without dashes, and the value.
type Flag = (&'static str, Option<String>);

/// A builder of commands for the cluster and identity of this call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubectl {
    flags: Vec<Flag>,
}

/// The flags that select the identity. `--token` is never repeated.
const IDENTITY: [&str; 7] = [
    "user",
    "client-certificate",
    "client-key",
    "as",
    "as-uid",
    "as-group",
    "as-user-extra",
];

impl Kubectl {
    /// Creates a builder with these flags.
    pub fn new(flags: impl IntoIterator<Item = Flag>) -> Self {
        Self {
            flags: flags.into_iter().collect(),
        }
    }

    /// Removes the flags that select the identity, such as `--user` and `--as`.
    #[must_use]
    pub fn without_identity(&self) -> Self {
        let flags = self.flags.iter().filter(|(name, _)| !IDENTITY.contains(name));
        Self::new(flags.cloned())
    }

    /// Replaces the context, unless it is `None`.
    #[must_use]
    pub fn in_context(&self, context: Option<&str>) -> Self {
        let Some(context) = context else {
            return self.clone();
        };
        let others = self.flags.iter().filter(|(name, _)| *name != "context").cloned();
        Self::new([("context", Some(context.to_owned()))].into_iter().chain(others))
    }

    /// Returns `kubectl WORDS FLAGS`.
    ///
    /// ```
    /// use defender_sim::kubectl::Kubectl;
    /// let kubectl = Kubectl::new([("context", Some("my cluster".into())), ("as", Some("bob".into()))]);
    /// assert_eq!(kubectl.command(["get", "pods"]), "kubectl get pods --context 'my cluster' --as bob");
    /// ```
    pub fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        let words: Vec<String> = words.into_iter().map(quote).collect();
        self.with_flags(&format!("kubectl {}", words.join(" ")))
    }

    /// Adds the flags to a hint that ends with a command.
    ///
    /// ```
    /// use defender_sim::kubectl::Kubectl;
    /// let kubectl = Kubectl::new([("context", Some("c".into()))]);
    /// assert_eq!(kubectl.complete("log in: kubectl auth whoami"), "log in: kubectl auth whoami --context c");
    /// assert_eq!(kubectl.complete("log in"), "log in");
    /// ```
    pub fn complete(&self, hint: &str) -> String {
        let command = hint.rsplit(": ").next().unwrap_or_default();
        if command.starts_with("kubectl ") {
            self.with_flags(hint)
        } else {
            hint.to_owned()
        }
    }

    fn with_flags(&self, text: &str) -> String {
        // Commands that edit or list a kubeconfig only accept the file.
        let takes_only_file = text.contains("kubectl config ") && !text.contains("kubectl config view");
        let flags = self
            .flags
            .iter()
            .filter(|(name, _)| !takes_only_file || *name == "kubeconfig")
            .map(|(name, value)| match value.as_deref() {
                None => format!(" --{name}"),
                // Without the "=", the value would be parsed as a flag.
                Some(value) if value.starts_with('-') => format!(" --{name}={}", quote(value)),
                Some(value) => format!(" --{name} {}", quote(value)),
            });
        let flags: String = flags.collect();
        format!("{text}{flags}")
    }
}

/// Quotes a word for a shell, without control characters.
fn quote(word: &str) -> String {
    let word = untrusted::name(word);
    // shlex also quotes words with "=", which is common in flags and special in no shell.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    if !word.is_empty() && !word.starts_with('=') && word.chars().all(is_plain) {
        return word;
    }
    shlex::try_quote(&word).map_or_else(|_| "''".to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that a kubeconfig, a record or a command line can hold.
    const HOSTILE: [&str; 10] = [
        "my cluster",
        "a'b\"c",
        "x; touch /tmp/pwn #",
        "$(reboot)",
        "`reboot`",
        "a|b&c>d<e",
        "!! ~ * ? [x] {a,b} \\",
        "-rf",
        "=ls",
        "",
    ];

    #[test]
    fn hostile_names_stay_one_word() {
        for name in HOSTILE {
            let kubectl = Kubectl::new([("context", Some(name.to_owned())), ("as", Some(name.to_owned()))]);
            let command = kubectl.command(["get", "pods", "-n", name]);
            let words = shlex::split(&command).unwrap();
            let mut expected = ["kubectl", "get", "pods", "-n", name].map(str::to_owned).to_vec();
            for flag in ["--context", "--as"] {
                if name.starts_with('-') {
                    expected.push(format!("{flag}={name}"));
                } else {
                    expected.extend([flag.to_owned(), name.to_owned()]);
                }
            }
            assert_eq!(words, expected, "{command}");
        }
    }

    #[test]
    fn plain_names_are_not_quoted() {
        for name in [
            "arn:aws:eks:eu-central-1:111122223333:cluster/a_b",
            "admin@k8s",
            "aks-1",
            "a=b",
        ] {
            let kubectl = Kubectl::new([("context", Some(name.to_owned()))]);
            assert_eq!(
                kubectl.command(["version"]),
                format!("kubectl version --context {name}")
            );
        }
    }

    #[test]
    fn control_characters_are_removed() {
        let kubectl = Kubectl::new([("context", Some("a\u{1b}]0;x\u{7}\nb\0c".to_owned()))]);
        let command = kubectl.command(["version"]);
        assert!(!command.contains(char::is_control), "{command:?}");
    }

    #[test]
    fn command_without_identity_keeps_the_cluster() {
        let value = |text: &str| Some(text.to_owned());
        let kubectl = Kubectl::new([
            ("kubeconfig", value("/k")),
            ("user", value("u")),
            ("as", value("a")),
            ("as-group", value("g")),
            ("server", value("https://s")),
        ]);
        let command = kubectl.without_identity().command(["version"]);
        assert_eq!(command, "kubectl version --kubeconfig /k --server https://s");
    }

    #[test]
    fn in_context_replaces_the_context() {
        let kubectl = Kubectl::new([("context", Some("a".to_owned()))]);
        let command = |context| kubectl.in_context(context).command(["version"]);
        assert_eq!(command(Some("b")), "kubectl version --context b");
        assert_eq!(command(None), "kubectl version --context a");
    }

    #[test]
    fn kubeconfig_commands_take_only_the_file() {
        let value = |text: &str| Some(text.to_owned());
        let kubectl = Kubectl::new([("kubeconfig", value("/k")), ("context", value("none"))]);
        let hint = kubectl.complete("see: kubectl config get-contexts");
        assert_eq!(hint, "see: kubectl config get-contexts --kubeconfig /k");
        let hint = kubectl.complete("see: kubectl config view --minify");
        assert_eq!(
            hint,
            "see: kubectl config view --minify --kubeconfig /k --context none"
        );
    }
}
