use super::*;
use crate::handover::{handover, tests::run};
use crate::report::fixture::HOSTILE;

const VERIFY: &str = "kubectl defender-sim verify q33wg4p3";

fn document() -> Handover {
    handover(&run(), "2026-05-05T08:00:00Z".parse().unwrap())
}

#[test]
fn text_fits_80_columns_except_what_is_copied() {
    let text = text(&document(), VERIFY, Width::Screen);
    for line in text.lines() {
        let is_copied = ["/subscriptions/", "https://", "(run "]
            .iter()
            .any(|part| line.contains(part));
        assert!(line.chars().count() <= 80 || is_copied, "{line}");
    }
    for part in [
        "\n  Service account  mdc-simulation-pods-q33wg4p3\n",
        "\n  High          One more\n                Active, raised 2026-05-04 10:40:00 UTC\n                \
         https://portal.example/1\n",
        "  As of 2026-05-04T11:00:00Z in Azure Resource Graph.\n",
        "\nThe missing alert      not raised\n",
        "\n  SecurityAlert\n  | where TimeGenerated >= datetime(2026-05-04T09:58:00Z)\n",
        "Nothing was read or changed in Azure.",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains(VERIFY), "{text}");
}

#[test]
fn wide_text_has_the_ids_of_alerts() {
    let id = "                /subscriptions/s/alerts/1\n";
    assert!(!text(&document(), VERIFY, Width::Screen).contains(id));
    assert!(text(&document(), VERIFY, Width::Wide).contains(id));
}

#[test]
fn unverified_run_names_the_command_that_verifies_it() {
    let mut run = run();
    run.verification = None;
    let document = handover(&run, "2026-05-05T08:00:00Z".parse().unwrap());
    let text = text(&document, VERIFY, Width::Screen);
    let part = format!("  The alerts of this run were not verified.\n  Check its alerts with:\n  {VERIFY}\n");
    assert!(text.contains(&part), "{text}");
    let markdown = markdown(&document);
    assert!(markdown.contains(&format!("<code>{VERIFY}</code>")), "{markdown}");
}

#[test]
fn less_precise_queries_are_announced() {
    let mut run = run();
    let warned = |run: &crate::result::RunResult| {
        let document = handover(run, run.ended);
        [text(&document, VERIFY, Width::Screen), markdown(&document)]
            .map(|text| text.contains("The queries may also match alerts about other clusters"))
    };
    assert_eq!(warned(&run), [false; 2]);
    run.cluster.resource_id = None;
    assert_eq!(warned(&run), [true; 2]);
}

#[test]
fn markdown_links_alerts_and_fences_queries_and_rules() {
    let text = markdown(&document());
    for part in [
        "| [One more](https://portal.example/1) | High | Active | 2026-05-04 10:40:00 | \
         <code>/subscriptions/s/alerts/1</code> |\n",
        &format!("\n```kql\n{}\n```\n", document().queries.resource_graph),
        &format!("\n```kql\n{}\n```\n", document().queries.log_analytics),
        "- Label: <code>defender-sim/run=q33wg4p3</code>\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn hostile_text_is_no_markup() {
    let usual = markdown(&document());
    let mut hostile = run();
    let text = || format!("{HOSTILE}\n```\n<script>");
    hostile.namespace = text();
    hostile.version = text().into();
    hostile.cluster.server = text();
    hostile.victims[0].pod = text();
    hostile.victims[0].node = Some(text());
    let verification = hostile.verification.as_mut().unwrap();
    verification.source = text();
    for alert in &mut verification.additional {
        (alert.id, alert.name, alert.status) = (text(), text(), Some(text()));
    }
    for alert in &mut verification.alerts {
        alert.name = text();
    }
    let document = handover(&hostile, "2026-05-05T08:00:00Z".parse().unwrap());
    let text = markdown(&document);
    assert_eq!(text.lines().count(), usual.lines().count(), "{text}");
    assert_eq!(
        text.matches("\n```").count(),
        usual.matches("\n```").count(),
        "{text}"
    );
    let mut is_markup = true;
    for line in text.lines() {
        if line.starts_with("```") {
            is_markup = !is_markup;
        } else if is_markup {
            assert!(!line.contains("<b>") && !line.contains("<script>"), "{line}");
        }
    }
    let terminal = super::text(&document, VERIFY, Width::Screen);
    assert!(!terminal.contains('\u{1b}'), "{terminal:?}");
}
