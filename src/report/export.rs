//! Report formats. This module only renders: it neither writes nor prints.

use std::path::Path;

use super::{handover, html, json, junit, markdown, navigator, note, openmetrics};
use crate::result::{FleetResult, Handover, Note, RunResult};
use crate::untrusted;

/// A format in which a result can be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `JUnit` XML, for tools that show test results.
    Junit,
    /// The unmodified result, as JSON.
    Json,
    /// GitHub-flavoured Markdown, for a comment or a job summary.
    Markdown,
    /// One self-contained HTML document, for people.
    Html,
    /// A layer of the ATT&CK Navigator.
    Navigator,
    /// Metrics in the `OpenMetrics` text format.
    OpenMetrics,
}

impl Kind {
    /// Every format.
    pub const ALL: [Self; 6] = [
        Self::Junit,
        Self::Json,
        Self::Markdown,
        Self::Html,
        Self::Navigator,
        Self::OpenMetrics,
    ];

    /// Returns the name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Navigator => "navigator",
            Self::OpenMetrics => "openmetrics",
        }
    }

    /// Returns whether one file can hold the results of several clusters.
    pub fn holds_several_results(self) -> bool {
        matches!(self, Self::Junit | Self::Json | Self::Markdown | Self::Html)
    }
}

/// Renders the results of several clusters in the given format, with a trailing newline; as JSON if the format does not
/// hold several results.
pub fn render_fleet(kind: Kind, fleet: &FleetResult) -> String {
    complete(match kind {
        Kind::Junit => junit::render_fleet(fleet),
        Kind::Markdown => markdown::render_fleet(fleet),
        Kind::Html => html::fleet::render(fleet),
        Kind::Json | Kind::Navigator | Kind::OpenMetrics => json(fleet),
    })
}

/// Renders a result in the given format, with a trailing newline.
pub fn render(kind: Kind, result: &RunResult) -> String {
    complete(match kind {
        Kind::Junit => junit::render(result),
        Kind::Json => json(result),
        Kind::Markdown => markdown::render(result),
        Kind::Html => html::render(result),
        Kind::Navigator => navigator::render(result),
        Kind::OpenMetrics => openmetrics::render(result),
    })
}

/// Removes what is invisible, and ends the text with a newline.
fn complete(text: String) -> String {
    let mut text = visible(text);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Removes invisible characters from a text other than JSON, which escapes them.
fn visible(mut text: String) -> String {
    text.retain(|c| !untrusted::is_unseen(c));
    text
}

/// Renders a note for the SOC in the format of its file: Markdown for `.md`, otherwise JSON.
pub fn render_note(path: &Path, note: &Note) -> String {
    if is_markdown(path) {
        visible(note::render(note))
    } else {
        json(note)
    }
}

/// Renders a handover in the format of its file: Markdown for `.md`, otherwise JSON.
pub fn render_handover(path: &Path, document: &Handover) -> String {
    if is_markdown(path) {
        visible(handover::markdown(document))
    } else {
        json(document)
    }
}

fn is_markdown(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    extension.eq_ignore_ascii_case("md")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::note;
    use crate::report::fixture;

    #[test]
    fn every_format_ends_with_one_newline() {
        for kind in Kind::ALL {
            let text = render(kind, &fixture::mixed());
            assert!(
                text.ends_with('\n') && !text.ends_with("\n\n"),
                "{kind:?}: {text}"
            );
        }
    }

    #[test]
    fn note_is_markdown_for_that_extension_and_else_json() {
        let note = note("sim");
        for (path, is_markdown) in [
            ("note.md", true),
            ("a/NOTE.MD", true),
            ("note.json", false),
            ("note", false),
            (".md", false),
            ("note.md.json", false),
            ("notes.md/note", false),
        ] {
            let text = render_note(Path::new(path), &note);
            assert_eq!(text.starts_with("## "), is_markdown, "{path}");
            assert_eq!(text.starts_with('{'), !is_markdown, "{path}");
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{path}: {text}");
        }
    }

    #[test]
    fn nothing_unseen_is_in_any_format() {
        let text = "a\u{1b}[2J\u{9b}\u{202e}\u{200b}\u{7f}\u{85}b";
        let mut result = fixture::verified();
        result.namespace = text.into();
        result.cluster.server = text.into();
        let scenario = &mut result.scenarios[0];
        scenario.steps[0].title = text.into();
        scenario.steps[0].evidence = Some(text.into());
        scenario.steps[1].reason = Some(text.into());
        result.verification.as_mut().unwrap().alerts[0].name = text.into();
        for kind in Kind::ALL {
            let report = render(kind, &result);
            assert!(!report.contains(untrusted::is_unseen), "{kind:?}: {report:?}");
        }
        let json: RunResult = serde_json::from_str(&render(Kind::Json, &result)).unwrap();
        assert_eq!(json.namespace, text);
        for path in ["note.md", "note.json"] {
            let note = render_note(Path::new(path), &note(text));
            assert!(!note.contains(untrusted::is_unseen), "{path}: {note:?}");
        }
    }
}
