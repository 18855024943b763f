//! What a run proved, as a layer of the ATT&CK Navigator: one entry for each technique.
//!
//! Fields as of version 4.5 of the layer format, in <https://github.com/mitre-attack/attack-navigator>
//! (`layers/spec/v4.5/layerformat.md`). There is no machine-readable schema of it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::result::{RunResult, ScenarioResult, StepResult, Verdict, Verification};
use crate::scenario::Outcome;

/// What is known of a technique, from least to most; of several steps that use it, the best counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    NotRun,
    Run,
    Proved,
    NotDetected,
    Detected,
}

impl Standing {
    /// Those of a run whose alerts nobody looked for, and of one whose alerts somebody did.
    fn all(verification: Option<&Verification>) -> &'static [Standing] {
        match verification {
            None => &[Standing::Run, Standing::Proved],
            Some(_) => &[Standing::NotRun, Standing::NotDetected, Standing::Detected],
        }
    }

    /// What a step says of its techniques; nothing where it says nothing.
    fn of(scenario: &ScenarioResult, step: &StepResult, verification: Option<&Verification>) -> Option<Self> {
        match (verification, step.outcome) {
            (None, Outcome::Proved) => Some(Standing::Proved),
            (None, Outcome::Failed | Outcome::Blocked) => Some(Standing::Run),
            (None, Outcome::Skipped) => None,
            (Some(verification), _) if detected(scenario, step, verification) => Some(Standing::Detected),
            (Some(_), Outcome::Proved) => Some(Standing::NotDetected),
            (Some(_), Outcome::Failed | Outcome::Blocked | Outcome::Skipped) => Some(Standing::NotRun),
        }
    }

    /// Score, colour and meaning. The gradient goes through these colours at these scores.
    fn look(self) -> (u8, &'static str, &'static str) {
        match self {
            Standing::NotRun => (0, "#cccccc", "not run, or not proved"),
            Standing::NotDetected => (50, "#d9534f", "run, not detected"),
            Standing::Detected => (100, "#5cb85c", "detected"),
            Standing::Run => (50, "#f0ad4e", "run, not proved"),
            Standing::Proved => (100, "#5cb85c", "proved"),
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
    gradient: Gradient,
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
    score: u8,
    comment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gradient {
    colors: Vec<&'static str>,
    min_value: u8,
    max_value: u8,
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
    let looks: Vec<_> = Standing::all(result.verification.as_ref())
        .iter()
        .map(|standing| standing.look())
        .collect();
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
            // Else a score of a sub-technique is not seen.
            expanded_subtechniques: "annotated",
        },
        techniques: techniques(result),
        gradient: Gradient {
            // The scores in between get the colours in between; a technique that is not listed has no score.
            colors: Some("#ffffff")
                .filter(|_| looks[0].0 > 0)
                .into_iter()
                .chain(looks.iter().map(|(_, color, _)| *color))
                .collect(),
            min_value: 0,
            max_value: 100,
        },
        legend_items: looks
            .iter()
            .map(|&(_, color, label)| LegendItem { label, color })
            .collect(),
        metadata: metadata.map(|(name, value)| Metadata { name, value }).into(),
    };
    serde_json::to_string_pretty(&layer).expect("a layer is always JSON")
}

/// Whether an alert was raised that tells of this step. One that tells of a whole scenario does so only where
/// the scenario is that step.
fn detected(scenario: &ScenarioResult, step: &StepResult, verification: &Verification) -> bool {
    let tells = |id: &str| {
        let expected = scenario.alerts.iter().find(|alert| alert.id == id);
        expected.is_some_and(|alert| match &alert.step {
            Some(of) => *of == step.id,
            None => scenario.steps.len() == 1,
        })
    };
    let raised = verification
        .alerts
        .iter()
        .filter(|alert| alert.verdict == Verdict::Raised);
    raised.map(|alert| alert.id.as_str()).any(tells)
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
      "comment": "one.look proved"
    },
    {
      "techniqueID": "T1105",
      "score": 50,
      "comment": "one.fetch failed: exit status 1"
    },
    {
      "techniqueID": "T1496.001",
      "score": 50,
      "comment": "two.send blocked: timed out"
    },
    {
      "techniqueID": "T1613",
      "score": 100,
      "comment": "one.look proved\ntwo.send blocked: timed out"
    }
  ],
  "gradient": {
    "colors": [
      "#ffffff",
      "#f0ad4e",
      "#5cb85c"
    ],
    "minValue": 0,
    "maxValue": 100
  },
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
    fn the_gradient_has_each_colour_at_its_score() {
        for result in [fixture::mixed(), fixture::verified()] {
            let layer: serde_json::Value = serde_json::from_str(&render(&result)).unwrap();
            let colors = layer["gradient"]["colors"].as_array().unwrap();
            for standing in Standing::all(result.verification.as_ref()) {
                let (score, color, _) = standing.look();
                let at = usize::from(score) * (colors.len() - 1);
                assert_eq!((at % 100, &colors[at / 100]), (0, &color.into()));
            }
        }
    }

    #[test]
    fn what_defender_told_of_is_detected() {
        let scored = techniques(&fixture::verified());
        let scored: Vec<(&str, u8)> = scored
            .iter()
            .map(|entry| (entry.id.as_str(), entry.score))
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
        let mut missed = fixture::verified();
        missed.verification.as_mut().unwrap().alerts[0].verdict = Verdict::NotRaised;
        let scored = techniques(&missed);
        assert_eq!(scored.iter().find(|entry| entry.id == "T1069").unwrap().score, 50);
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
            pub gradient: Gradient,
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
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct Gradient {
            pub colors: Vec<String>,
            pub min_value: f64,
            pub max_value: f64,
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
            assert!(layer.gradient.colors.len() >= 2);
            assert!(layer.gradient.max_value > layer.gradient.min_value);
            for technique in layer.techniques {
                let id = technique.id.replace(|c: char| c.is_ascii_digit(), "0");
                assert!(["T0000", "T0000.000"].contains(&id.as_str()), "{}", technique.id);
            }
        }
    }
}
