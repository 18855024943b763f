use super::*;
use crate::report::fixture;

#[test]
fn technique_has_the_worst_of_its_steps_and_names_them_all() {
    assert_eq!(
        render(&fixture::mixed()),
        r##"{
  "name": "Attack simulation k7",
  "versions": {
    "attack": "19",
    "navigator": "5.3.2",
    "layer": "4.5"
  },
  "domain": "enterprise-attack",
  "description": "Techniques that a run of kubectl defender-sim used, and whether their steps were proved.",
  "filters": {
    "platforms": [
      "Linux",
      "Containers",
      "IaaS"
    ]
  },
  "layout": {
    "layout": "side",
    "showID": true,
    "expandedSubtechniques": "annotated"
  },
  "techniques": [
    {
      "techniqueID": "T1069",
      "score": 100,
      "color": "#5cb85c",
      "comment": "one.look proved"
    },
    {
      "techniqueID": "T1105",
      "score": 50,
      "color": "#f0ad4e",
      "comment": "one.fetch failed: exit status 1"
    },
    {
      "techniqueID": "T1496.001",
      "score": 50,
      "color": "#f0ad4e",
      "comment": "two.send blocked: timed out"
    },
    {
      "techniqueID": "T1613",
      "score": 50,
      "color": "#f0ad4e",
      "comment": "one.look proved\ntwo.send blocked: timed out"
    }
  ],
  "legendItems": [
    {
      "label": "100: every step was proved",
      "color": "#5cb85c"
    },
    {
      "label": "50: a step ran and was not proved",
      "color": "#f0ad4e"
    }
  ],
  "metadata": [
    {
      "name": "run",
      "value": "k7"
    },
    {
      "name": "started",
      "value": "2026-01-02T03:04:05Z"
    },
    {
      "name": "kubectl defender-sim",
      "value": "1.2.3"
    }
  ]
}
"##
    );
}

#[test]
fn empty_layer_has_its_reason_in_the_description() {
    let description = |result: &RunResult| {
        let techniques = techniques(result);
        assert_eq!(techniques.len(), 0);
        description(result, &techniques)
    };
    let ends = |result: &RunResult, end: &str| {
        let text = description(result);
        assert!(text.ends_with(&format!(". {end}.")), "{text}");
    };
    let mut result = fixture::not_started();
    ends(&result, "No step that uses a technique ran: pods is forbidden");
    // Interrupted by a signal.
    result.problem = None;
    ends(&result, "No step that uses a technique ran: pods is forbidden");
    for step in result
        .scenarios
        .iter_mut()
        .flat_map(|scenario| &mut scenario.steps)
    {
        step.reason = Some("no such service".into());
    }
    ends(&result, "No step that uses a technique ran");
    result
        .scenarios
        .iter_mut()
        .for_each(|scenario| scenario.steps.clear());
    ends(&result, "No step is recorded");
}

#[test]
fn step_that_did_not_run_counts_for_nothing() {
    for mut result in [fixture::mixed(), fixture::verified()] {
        let of = |result: &RunResult, id: &str| {
            let entry = techniques(result).into_iter().find(|entry| entry.id == id);
            entry.map(|entry| (entry.score, entry.comment))
        };
        // Skipped by itself, or because the run ended.
        assert_eq!(of(&result, "T1528"), None);
        let send = &mut result.scenarios[1].steps[0];
        (send.started, send.outcome) = (None, Outcome::Skipped);
        send.reason = Some("not run: the victim stopped".into());
        assert_eq!(of(&result, "T1496.001"), None);
        let (score, comment) = of(&result, "T1613").unwrap();
        assert_eq!(score, Some(100), "of the other step: {comment}");
        assert!(
            comment.contains("two.send skipped: not run: the victim stopped"),
            "{comment}"
        );
    }
}

#[test]
fn verified_technique_has_alert_verdict_time_and_link() {
    let found = techniques(&fixture::verified());
    let look = found.iter().find(|entry| entry.id == "T1069").unwrap();
    assert_eq!(look.score, Some(100));
    assert_eq!(look.comment, "one.look proved\nThe alpha alert: raised");
    assert_eq!(
        serde_json::to_value(&look.metadata).unwrap(),
        serde_json::json!([
            { "name": "alert", "value": "The alpha alert" },
            { "name": "verdict", "value": "raised" },
            { "name": "time to detect", "value": "40 min" },
            { "name": "run", "value": "k7" },
        ])
    );
    assert_eq!(
        serde_json::to_value(&look.links).unwrap(),
        serde_json::json!([{ "label": "The alpha alert", "url": "https://portal.example/1" }])
    );
    // Only links to the portal are kept.
    let mut other = fixture::verified();
    let raised = other.verification.as_mut().unwrap().alerts[0].raised.as_mut();
    raised.unwrap().link = Some("javascript:alert(1)".into());
    assert!(techniques(&other).iter().all(|entry| entry.links.is_empty()));
}

/// Returns the entry of a technique that one step with these alerts and verdicts uses.
fn entry_of(alerts: &[(Verdict, bool)], outcome: Outcome) -> Technique {
    let mut result = fixture::verified();
    result.scenarios.truncate(1);
    let scenario = &mut result.scenarios[0];
    scenario.steps.truncate(1);
    scenario.steps[0].techniques = vec!["T1069".into()];
    scenario.steps[0].outcome = outcome;
    let expected = scenario.alerts.remove(0);
    let verification = result.verification.as_mut().unwrap();
    let alert = verification.alerts.remove(0);
    verification.alerts.clear();
    for (index, (verdict, late)) in alerts.iter().enumerate() {
        let (mut expected, mut alert) = (expected.clone(), alert.clone());
        (expected.id, alert.id) = (index.to_string(), index.to_string());
        (alert.verdict, alert.late) = (*verdict, *late);
        alert.reason = Some("there is no Defender sensor".into());
        scenario.alerts.push(expected);
        verification.alerts.push(alert);
    }
    techniques(&result).remove(0)
}

#[test]
fn score_is_that_of_the_alerts_of_a_step() {
    use Verdict::{NotExpected, NotRaised, Raised, Unknown, Waiting};
    for (alerts, expected) in [
        (&[(Raised, false)][..], Coverage::Detected),
        (&[(Raised, true)], Coverage::Late),
        (&[(NotRaised, false)], Coverage::NotDetected),
        (&[(Waiting, false)], Coverage::Unknown),
        (&[(NotExpected, false)], Coverage::Unknown),
        (&[(Unknown, false)], Coverage::Unknown),
        (&[], Coverage::NoAlert),
        (&[(NotRaised, false), (Raised, false)], Coverage::Detected),
        (&[(NotRaised, false), (Raised, true)], Coverage::Late),
        (&[(Unknown, false), (NotRaised, false)], Coverage::NotDetected),
    ] {
        let entry = entry_of(alerts, Outcome::Proved);
        let (score, color, _) = expected.legend();
        assert_eq!((entry.score, entry.color), (score, color), "{alerts:?}");
    }
    let excluded = entry_of(&[(NotExpected, false)], Outcome::Proved);
    let line = format!(
        "The alpha alert: {}: there is no Defender sensor",
        NotExpected.as_str()
    );
    assert!(excluded.comment.ends_with(&line), "{}", excluded.comment);
    // Without a proof nothing could be detected, unless it was detected.
    let score = |verdict| entry_of(&[(verdict, false)], Outcome::Failed).color;
    assert_eq!(score(NotRaised), Coverage::Unproved.legend().1);
    assert_eq!(score(Raised), Coverage::Detected.legend().1);
}

#[test]
fn alert_of_another_step_is_no_evidence() {
    let mut other = fixture::verified();
    other.scenarios[0].alerts[0].steps = vec!["fetch".into()];
    let found = techniques(&other);
    let look = found.iter().find(|entry| entry.id == "T1069").unwrap();
    let (score, color, _) = Coverage::NoAlert.legend();
    assert_eq!((look.score, look.color, look.metadata.len()), (score, color, 0));
}

#[test]
fn worst_step_of_a_technique_counts() {
    // "look" is detected, "send" is not proved.
    let shared = |result: &RunResult| {
        let found = techniques(result);
        let entry = found.into_iter().find(|entry| entry.id == "T1613").unwrap();
        (entry.score, entry.color)
    };
    let legend = |coverage: Coverage| (coverage.legend().0, coverage.legend().1);
    let mut result = fixture::verified();
    assert_eq!(shared(&result), legend(Coverage::Unproved));
    // A step without an alert does not affect a technique for which another step has an alert.
    result.scenarios[1].steps[0].outcome = Outcome::Proved;
    assert_eq!(shared(&result), legend(Coverage::Detected));
    result.scenarios[1].alerts[1].steps = vec!["send".into()];
    result.scenarios[1].alerts[1].id = "missing".into();
    assert_eq!(shared(&result), legend(Coverage::NotDetected));
}

#[test]
fn each_meaning_has_a_color_and_a_legend_entry() {
    for verification in [None, fixture::verified().verification] {
        let all = Coverage::all(verification.as_ref())
            .iter()
            .map(|coverage| coverage.legend());
        let colors: std::collections::BTreeSet<&str> = all.clone().map(|(_, color, _)| color).collect();
        assert_eq!(colors.len(), all.clone().count());
        for (score, _, label) in all {
            let start = score.map_or("no score".to_owned(), |score| score.to_string());
            assert!(label.starts_with(&format!("{start}: ")), "{label}");
        }
    }
}

/// The documented layer format: every field with its type, required or not. Replaces a schema, which does not exist.
#[expect(dead_code, reason = "reading it is the test")]
mod documented {
    use serde::Deserialize;
    use serde::de::IgnoredAny;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct Layer {
        name: String,
        pub domain: String,
        pub versions: Versions,
        description: Option<String>,
        #[serde(rename = "customDataURL")]
        custom_data_url: Option<String>,
        filters: Option<Filters>,
        sorting: Option<u8>,
        pub layout: Layout,
        hide_disabled: Option<bool>,
        pub techniques: Vec<Technique>,
        gradient: Option<IgnoredAny>,
        legend_items: Option<Vec<LegendItem>>,
        show_tactic_row_background: Option<bool>,
        tactic_row_background: Option<String>,
        select_techniques_across_tactics: Option<bool>,
        select_subtechniques_with_parent: Option<bool>,
        select_visible_techniques: Option<bool>,
        metadata: Option<Vec<Metadata>>,
        links: Option<IgnoredAny>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Versions {
        attack: Option<String>,
        pub navigator: String,
        pub layer: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct Layout {
        #[serde(rename = "layout")]
        pub arrangement: String,
        #[serde(rename = "showID")]
        show_id: Option<bool>,
        show_name: Option<bool>,
        show_aggregate_scores: Option<bool>,
        count_unscored: Option<bool>,
        aggregate_function: Option<String>,
        pub expanded_subtechniques: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct Technique {
        #[serde(rename = "techniqueID")]
        pub id: String,
        tactic: Option<String>,
        comment: Option<String>,
        enabled: Option<bool>,
        score: Option<f64>,
        color: Option<String>,
        pub metadata: Option<Vec<Metadata>>,
        pub links: Option<Vec<Link>>,
        show_subtechniques: Option<bool>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct LegendItem {
        label: String,
        color: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Filters {
        platforms: Option<Vec<String>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Metadata {
        pub name: String,
        pub value: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Link {
        pub label: String,
        pub url: String,
    }
}

#[test]
fn layer_has_the_documented_form() {
    for result in fixture::all() {
        let layer: documented::Layer = serde_json::from_str(&render(&result)).unwrap();
        assert_eq!(layer.versions.layer, "4.5");
        let navigator = layer
            .versions
            .navigator
            .split('.')
            .map(|part| part.parse().unwrap());
        assert!(navigator.collect::<Vec<u32>>() >= vec![4, 9, 0]);
        assert!(["enterprise-attack", "mobile-attack", "ics-attack"].contains(&layer.domain.as_str()));
        assert!(["side", "flat", "mini"].contains(&layer.layout.arrangement.as_str()));
        assert!(["none", "all", "annotated"].contains(&layer.layout.expanded_subtechniques.as_str()));
        for technique in layer.techniques {
            let id = technique.id.replace(|c: char| c.is_ascii_digit(), "0");
            assert!(["T0000", "T0000.000"].contains(&id.as_str()), "{}", technique.id);
            let metadata = technique.metadata.into_iter().flatten();
            let mut metadata = metadata.flat_map(|entry| [entry.name, entry.value]);
            assert!(metadata.all(|text| !text.is_empty()), "{}", technique.id);
            for link in technique.links.into_iter().flatten() {
                assert!(
                    !link.label.is_empty() && link.url.starts_with("https://"),
                    "{}",
                    link.url
                );
            }
        }
    }
}
