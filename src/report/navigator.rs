//! What a run proved, as a layer of the ATT&CK Navigator: one entry for each technique.
//!
//! Fields as of version 4.5 of the layer format, in <https://github.com/mitre-attack/attack-navigator>
//! (`layers/spec/v4.5/layerformat.md`). There is no machine-readable schema of it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::result::{AlertVerdict, RunResult, ScenarioResult, StepResult, Verdict, Verification};
use crate::scenario::Outcome;

/// What is known of a technique, from least to most; of several steps that use it, the best counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    NotRun,
    Run,
    Proved,
    NotKnown,
    NotDetected,
    Detected,
}

impl Standing {
    /// Those of a run whose alerts nobody looked for, and of one whose alerts somebody did.
    fn all(verification: Option<&Verification>) -> &'static [Standing] {
        match verification {
            None => &[Standing::Run, Standing::Proved],
            Some(_) => &[
                Standing::NotRun,
                Standing::NotKnown,
                Standing::NotDetected,
                Standing::Detected,
            ],
        }
    }

    /// What a step says of its techniques; nothing where it says nothing.
    fn of(scenario: &ScenarioResult, step: &StepResult, verification: Option<&Verification>) -> Option<Self> {
        match (verification, step.outcome) {
            (None, Outcome::Proved) => Some(Standing::Proved),
            (None, Outcome::Failed | Outcome::Blocked) => Some(Standing::Run),
            (None, Outcome::Skipped) => None,
            (Some(verification), outcome) => {
                let told = alerts(scenario, step, verification).map(Standing::told).max();
                match (told, outcome) {
                    (Some(Standing::Detected), _) => told,
                    (_, Outcome::Proved) => told.or(Some(Standing::NotKnown)),
                    (_, Outcome::Failed | Outcome::Blocked | Outcome::Skipped) => Some(Standing::NotRun),
                }
            }
        }
    }

    /// What an alert says of a step that it tells of.
    fn told(alert: &AlertVerdict) -> Self {
        match alert.verdict {
            Verdict::Raised if !alert.late => Standing::Detected,
            Verdict::Raised | Verdict::NotRaised => Standing::NotDetected,
            Verdict::Waiting | Verdict::NotExpected | Verdict::CouldNotTell => Standing::NotKnown,
        }
    }

    /// Score, if it is one, colour and meaning.
    fn look(self) -> (Option<u8>, &'static str, &'static str) {
        match self {
            Standing::NotRun => (Some(0), "#cccccc", "not run, or not proved"),
            Standing::NotKnown => (None, "#f0ad4e", "run, not known whether detected"),
            Standing::NotDetected => (Some(50), "#d9534f", "run, not detected, or too late"),
            Standing::Detected => (Some(100), "#5cb85c", "detected"),
            Standing::Run => (Some(50), "#f0ad4e", "run, not proved"),
            Standing::Proved => (Some(100), "#5cb85c", "proved"),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    name: String,
    versions: Versions,
    domain: &'static str,
    description: &'static str,
    layout: Layout,
    techniques: Vec<Technique>,
    legend_items: Vec<LegendItem>,
    metadata: Vec<Metadata>,
}

#[derive(Serialize)]
struct Versions {
    attack: &'static str,
    navigator: &'static str,
    layer: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    #[serde(rename = "layout")]
    arrangement: &'static str,
    #[serde(rename = "showID")]
    show_id: bool,
    expanded_subtechniques: &'static str,
}

#[derive(Serialize)]
struct Technique {
    #[serde(rename = "techniqueID")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u8>,
    color: &'static str,
    comment: String,
}

#[derive(Serialize)]
struct LegendItem {
    label: &'static str,
    color: &'static str,
}

#[derive(Serialize)]
struct Metadata {
    name: &'static str,
    value: String,
}

pub(super) fn render(result: &RunResult) -> String {
    let metadata = [
        ("run", result.run.clone()),
        ("started", result.started.to_string()),
        ("kubectl defender-sim", result.version.clone().into_owned()),
    ];
    let looks = Standing::all(result.verification.as_ref())
        .iter()
        .map(|standing| standing.look());
    let layer = Layer {
        name: format!("Attack simulation {}", result.run),
        // Results carry ids as of ATT&CK v19, which this Navigator has.
        versions: Versions {
            attack: "19",
            navigator: "5.3.2",
            layer: "4.5",
        },
        domain: "enterprise-attack",
        description: match result.verification {
            None => "Techniques that a run of kubectl defender-sim proved, or ran and did not prove.",
            Some(_) => {
                "Techniques that a run of kubectl defender-sim used, and whether Defender told of them."
            }
        },
        layout: Layout {
            arrangement: "side",
            show_id: true,
            // Else a sub-technique is not seen.
            expanded_subtechniques: "annotated",
        },
        techniques: techniques(result),
        legend_items: looks
            .map(|(_, color, label)| LegendItem { label, color })
            .collect(),
        metadata: metadata.map(|(name, value)| Metadata { name, value }).into(),
    };
    serde_json::to_string_pretty(&layer).expect("a layer is always JSON")
}

/// The alerts that tell of this step. One that tells of a whole scenario does so only where the scenario is
/// that step.
fn alerts<'a>(
    scenario: &ScenarioResult,
    step: &StepResult,
    verification: &'a Verification,
) -> impl Iterator<Item = &'a AlertVerdict> {
    verification.alerts.iter().filter(|alert| {
        let expected = scenario.alerts.iter().find(|expected| expected.id == alert.id);
        expected.is_some_and(|expected| match &expected.step {
            Some(of) => *of == step.id,
            None => scenario.steps.len() == 1,
        })
    })
}

fn techniques(result: &RunResult) -> Vec<Technique> {
    let mut found: BTreeMap<&str, (Standing, Vec<String>)> = BTreeMap::new();
    for scenario in &result.scenarios {
        for step in &scenario.steps {
            let Some(standing) = Standing::of(scenario, step, result.verification.as_ref()) else {
                continue;
            };
            let reason = step.reason.iter().map(|reason| format!(": {reason}"));
            let line: String = [format!("{}.{} {}", scenario.id, step.id, step.outcome.as_str())]
                .into_iter()
                .chain(reason)
                .collect();
            for id in &step.techniques {
                let (best, lines) = found.entry(id).or_insert((standing, vec![]));
                *best = standing.max(*best);
                lines.push(line.clone());
            }
        }
    }
    let technique = |(id, (standing, lines)): (&str, (Standing, Vec<String>))| Technique {
        id: id.to_owned(),
        score: standing.look().0,
        color: standing.look().1,
        comment: lines.join("\n"),
    };
    found.into_iter().map(technique).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_technique_has_the_best_of_its_steps_and_names_them_all() {
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
  "description": "Techniques that a run of kubectl defender-sim proved, or ran and did not prove.",
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
      "score": 100,
      "color": "#5cb85c",
      "comment": "one.look proved\ntwo.send blocked: timed out"
    }
  ],
  "legendItems": [
    {
      "label": "run, not proved",
      "color": "#f0ad4e"
    },
    {
      "label": "proved",
      "color": "#5cb85c"
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
}"##
        );
    }

    #[test]
    fn what_was_not_run_is_not_there() {
        assert_eq!(techniques(&fixture::not_started()).len(), 0);
    }

    #[test]
    fn what_defender_told_of_is_detected() {
        let scored = techniques(&fixture::verified());
        let scored: Vec<(&str, u8)> = scored
            .iter()
            .map(|entry| (entry.id.as_str(), entry.score.unwrap()))
            .collect();
        // "look" has an alert of its own that was raised; "fetch", "send" and "read" were not proved.
        let expected = [
            ("T1069", 100),
            ("T1105", 0),
            ("T1496.001", 0),
            ("T1528", 0),
            ("T1613", 100),
        ];
        assert_eq!(scored, expected);
    }

    #[test]
    fn only_an_alert_that_is_missing_or_late_makes_a_technique_undetected() {
        let standing = |verdict, late| {
            let mut result = fixture::verified();
            let alert = &mut result.verification.as_mut().unwrap().alerts[0];
            (alert.verdict, alert.late) = (verdict, late);
            let found = techniques(&result);
            let found = found.iter().find(|entry| entry.id == "T1069").unwrap();
            (found.score, found.color)
        };
        let look = |standing: Standing| (standing.look().0, standing.look().1);
        for (verdict, late, expected) in [
            (Verdict::Raised, false, Standing::Detected),
            (Verdict::Raised, true, Standing::NotDetected),
            (Verdict::NotRaised, false, Standing::NotDetected),
            (Verdict::Waiting, false, Standing::NotKnown),
            (Verdict::NotExpected, false, Standing::NotKnown),
            (Verdict::CouldNotTell, false, Standing::NotKnown),
        ] {
            assert_eq!(standing(verdict, late), look(expected), "{verdict:?} {late}");
        }
        // An alert that tells of another step says nothing of this one.
        let mut other = fixture::verified();
        other.scenarios[0].alerts[0].step = Some("fetch".into());
        let found = techniques(&other);
        let found = found.iter().find(|entry| entry.id == "T1069").unwrap();
        assert_eq!((found.score, found.color), look(Standing::NotKnown));
    }

    /// The layer format as it is documented: every field it knows, of its type, required or not. In the place
    /// of a schema, which it does not have.
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
            filters: Option<IgnoredAny>,
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
            metadata: Option<Vec<Metadata>>,
            links: Option<IgnoredAny>,
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
        pub struct Metadata {
            name: String,
            value: String,
        }
    }

    #[test]
    fn a_layer_is_what_the_format_says() {
        for result in [
            fixture::mixed(),
            fixture::verified(),
            fixture::unclean(),
            fixture::not_started(),
            fixture::interrupted(),
            fixture::hostile(),
        ] {
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
            }
        }
    }
}
