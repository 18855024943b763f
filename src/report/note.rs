//! The note for the SOC as human-readable Markdown.

use std::fmt::Write;

use super::markdown::{code, list, period, place, plain, table};
use crate::result::Note;

/// Renders a note.
pub(super) fn render(note: &Note) -> String {
    let mut text = "## Attack simulation: alerts about these pods are a test\n".to_owned();
    let _ = writeln!(
        text,
        "\nRun {} · {} · {}",
        code(&note.run),
        place(&note.namespace, &note.cluster),
        period(note.from, note.until)
    );
    let _ = writeln!(
        text,
        "\nAlerts may be raised until **{} UTC**.",
        note.alerts_until.strftime("%Y-%m-%d %H:%M:%S")
    );
    let codes = |texts: &[String]| {
        let texts: Vec<String> = texts.iter().map(|text| code(text)).collect();
        texts.join(", ")
    };
    let facts = [
        ("Pods", codes(&note.pods)),
        ("Service account", code(&note.service_account)),
        ("Label of every object", code(&note.selector)),
        ("Images", codes(&note.images)),
        ("User agent in the audit log", code(&note.user_agent)),
        ("Addresses contacted", codes(&note.addresses)),
    ];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    list(&mut text, facts.map(|(name, value)| format!("{name}: {value}")));
    let alerts = note.alerts.iter().map(|alert| {
        [
            plain(&alert.name),
            plain(alert.severity.as_deref().unwrap_or("unknown")),
            plain(&if alert.steps.is_empty() {
                "any".to_owned()
            } else {
                alert.steps.join(", ")
            }),
            plain(alert.needs.as_deref().unwrap_or_default()),
        ]
    });
    table(&mut text, ["Expected alert", "Severity", "Step", "Needs"], alerts);
    let steps = note.steps.iter().map(|step| {
        [
            plain(&step.id),
            plain(&step.title),
            plain(&step.techniques.join(", ")),
        ]
    });
    table(&mut text, ["Step", "Title", "MITRE ATT&CK"], steps);
    let _ = writeln!(
        text,
        "\nThese alerts in Microsoft Sentinel:\n\n```kql\n{}\n```",
        note.query
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::tests::note;
    use crate::report::fixture::HOSTILE;

    #[test]
    fn note_has_everything_that_a_soc_filters_by() {
        let note = note("sim");
        let text = render(&note);
        let run = &note.run;
        let start = format!(
            "\
## Attack simulation: alerts about these pods are a test

Run <code>{run}</code> · namespace <code>sim</code> of context <code>prod</code> at <code>https://192.0.2.1</code> · \
             2026-05-25 16:29:02 to 16:40:02 UTC

Alerts may be raised until **2026-05-25 18:10:02 UTC**.

- Pods: <code>mdc-simulation-attacker</code>, <code>mdc-simulation-victim</code>
- Service account: <code>mdc-simulation-pods-{run}</code>
- Label of every object: <code>defender-sim/run={run}</code>
- Images: <code>"
        );
        assert!(text.starts_with(&start), "{text}");
        for part in [
            "\n| Possible Web Shell activity detected | Medium | any |  |\n",
            "\n| Network scanning tool detected | unknown | recon.scan-services |  |\n",
            "| T1613, T1069 |\n",
            &format!("\n```kql\n{}\n```\n", note.query),
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn text_from_outside_is_no_markup() {
        let usual = render(&note("sim"));
        let mut note = note(HOSTILE);
        for text in [
            &mut note.user_agent,
            &mut note.cluster.server,
            &mut note.alerts[0].name,
            &mut note.steps[0].title,
        ] {
            *text = HOSTILE.to_owned();
        }
        let text = render(&note);
        assert_eq!(text.lines().count(), usual.lines().count(), "{text}");
        let (markup, query) = text.split_once("```kql").unwrap();
        assert!(!markup.contains("<b>"), "{markup}");
        assert!(
            query.ends_with("\n```\n") && query.matches("\n```").count() == 1,
            "{query}"
        );
    }
}
