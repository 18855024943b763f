use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::Value;

use super::*;
use crate::defender::alerts::{Cloud, Condition};
use crate::exit::Exit;
use crate::report::{export, fixture};
use crate::result::{
    AlertVerdict, RaisedAlert, RequestResult, ScenarioResult, StepResult, UnattributedAlert, Verdict,
    Verification, Victim, VictimEnd, expectations,
};
use crate::scenario::catalogue;
use crate::untrusted;

/// Every element of the template.
const ELEMENTS: [&str; 39] = [
    "a", "body", "caption", "circle", "code", "dd", "details", "div", "dl", "dt", "footer", "h1", "h2", "h3",
    "head", "header", "html", "li", "line", "main", "meta", "nav", "ol", "p", "section", "span", "strong",
    "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul",
];

/// Returns a run with a value in every field.
pub(super) fn complete() -> RunResult {
    let mut result = fixture::verified();
    let unclean = fixture::unclean();
    let problem = fixture::not_started().problem;
    result.verification_problem.clone_from(&problem);
    result.problem = problem;
    result.cleanup = unclean.cleanup;
    result.clock_offset_seconds = Some(-3);
    result.kept_until = Some(result.ended);
    let cluster = &mut result.cluster;
    cluster.kubeconfig_user = Some("admin".into());
    cluster.impersonated = Some("bob".into());
    cluster.resource_id = Some("/subscriptions/s".into());
    let mut facts = Facts {
        cloud: Some(Cloud::Aks),
        plan: Fact::No("the plan is off".into()),
        sensor: Fact::Unknown("it cannot be read".into()),
        ..Facts::default()
    };
    facts.conditions.insert(Condition::AuditLog, Fact::Yes);
    let no_policy = Fact::No("there is no policy".into());
    facts.conditions.insert(Condition::DriftPolicy, no_policy);
    result.facts = Some(facts);
    let victim = &mut result.victims[0];
    victim.node_labels = [("agentpool".into(), "user".into())].into();
    victim.ended = Some(VictimEnd {
        reason: "the container stopped".into(),
        details: vec!["exit code 137".into()],
    });
    let scenario = &mut result.scenarios[0];
    scenario.tactics = vec!["TA0007".into(), "X1".into()];
    scenario.alerts[0].needs = Some("an audit log".into());
    let step = &mut scenario.steps[1];
    step.victim = None;
    step.exit_status = Some(1);
    step.request = Some(RequestResult {
        verb: "create".into(),
        objects: vec!["clusterrole/x".into()],
        namespace: Some("sim".into()),
        status: Some(201),
        uid: Some("2f".into()),
        resource_version: Some("1".into()),
        audit_id: Some("3a".into()),
        warnings: vec!["a warning".into()],
    });
    let verification = result.verification.as_mut().unwrap();
    verification.unattributed = vec![UnattributedAlert {
        id: "u".into(),
        name: "Unread".into(),
        reason: "its place cannot be read".into(),
    }];
    verification.contradictions = vec!["there is no sensor, but \"x\" was raised".into()];
    result
}

/// Returns a run of built-in scenarios on `nodes`, with every step proved and every alert raised.
fn all_raised(nodes: &[(&str, &str)]) -> RunResult {
    let start: Timestamp = "2026-11-29T16:29:02Z".parse().unwrap();
    let after = |seconds: f64| start + jiff::SignedDuration::from_secs_f64(seconds);
    let mut result = RunResult::new(
        "q33wg4p3".into(),
        fixture::mixed().cluster,
        "mdc-simulation".into(),
        vec![],
        start,
    );
    let pod = |number: usize| format!("mdc-simulation-victim-{number}");
    result.victims = nodes
        .iter()
        .enumerate()
        .map(|(number, (node, pool))| Victim {
            group: Some((*pool).to_owned()),
            sensor: None,
            pod: pod(number),
            node: Some((*node).into()),
            node_labels: [("agentpool".into(), (*pool).into())].into(),
            ended: None,
        })
        .collect();
    let mut seconds = 0.0;
    for id in ["recon", "lateral-mov", "crypto"] {
        let scenario = catalogue::find(id).unwrap();
        let mut steps = vec![];
        for (step, number) in scenario
            .steps
            .iter()
            .flat_map(|step| (0..nodes.len()).map(move |n| (step, n)))
        {
            seconds += 0.6;
            steps.push(StepResult {
                id: step.id.clone(),
                title: step.title.clone(),
                techniques: step.techniques.iter().map(|id| id.v19().to_owned()).collect(),
                victim: Some(pod(number)),
                started: Some(after(seconds)),
                exit_status: Some(0),
                duration_ms: Some(43.0 * seconds),
                evidence: Some("256 addresses scanned, 1 with port 443 open".into()),
                ..fixture::mixed().scenarios[0].steps[0].clone()
            });
        }
        result.scenarios.push(ScenarioResult {
            id: scenario.id.clone(),
            title: scenario.title.clone(),
            tactics: scenario.tactics.iter().map(|id| id.v19().to_owned()).collect(),
            steps,
            alerts: expectations(&scenario.alerts),
        });
    }
    result.ended = after(seconds + 9.0);
    result.facts = Some(Facts {
        plan: Fact::Yes,
        sensor: Fact::Yes,
        ..Facts::default()
    });
    result.cleanup = Some(Cleanup {
        removed: (0..11)
            .map(|number| format!("pod/mdc-simulation-{number}"))
            .collect(),
        verified: true,
        ..Cleanup::default()
    });
    result.verification = Some(all_raised_verification(&result, after));
    result
}

/// Returns the verdicts on the expected alerts of a run: each is raised.
fn all_raised_verification(result: &RunResult, after: impl Fn(f64) -> Timestamp) -> Verification {
    let mut verification = fixture::verified().verification.unwrap();
    let raised = verification.additional.pop().unwrap();
    let mut expected: Vec<_> = result
        .scenarios
        .iter()
        .flat_map(|scenario| &scenario.alerts)
        .collect();
    expected.sort_by_key(|alert| &alert.id);
    expected.dedup_by_key(|alert| &alert.id);
    verification.alerts = expected
        .iter()
        .zip(1..)
        .map(|(alert, number)| AlertVerdict {
            id: alert.id.clone(),
            name: alert.name.clone(),
            optional: alert.optional,
            raised: Some(RaisedAlert {
                name: alert.name.clone(),
                generated: Some(after(247.0 * f64::from(number))),
                seconds_to_detect: Some(247.0 * f64::from(number)),
                status: None,
                ..raised.clone()
            }),
            ..verification.alerts[0].clone()
        })
        .collect();
    verification.failure = None;
    verification.read = after(3600.0);
    verification
}

/// Returns a run on ten nodes of three pools, one of which is silent: its steps failed, and alerts are missing.
fn silent_pool() -> RunResult {
    let names: Vec<String> = (0..10)
        .map(|number| format!("aks-np{}-vmss{number:06}", number / 4))
        .collect();
    let pools = ["system", "user", "gpu"];
    let nodes: Vec<(&str, &str)> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (&**name, pools[n / 4]))
        .collect();
    let mut result = all_raised(&nodes);
    let silent = ["mdc-simulation-victim-8", "mdc-simulation-victim-9"];
    for step in result
        .scenarios
        .iter_mut()
        .flat_map(|scenario| &mut scenario.steps)
    {
        if step
            .victim
            .as_deref()
            .is_some_and(|victim| silent.contains(&victim))
        {
            step.outcome = Outcome::Failed;
            step.reason = Some("the web server refuses the connection".into());
            step.evidence = None;
        }
    }
    let verification = result.verification.as_mut().unwrap();
    for alert in verification.alerts.iter_mut().skip(2).step_by(2) {
        alert.verdict = if alert.optional {
            Verdict::NotExpected
        } else {
            Verdict::NotRaised
        };
        alert.raised = None;
    }
    verification.failure = Some("6 of 10 expected alerts were raised".into());
    (result.exit, result.exit_code) = (Exit::NotProved, 4);
    result
}

pub(super) fn samples() -> Vec<RunResult> {
    let mut empty = fixture::not_started();
    empty.scenarios.clear();
    empty.victims.clear();
    // As `verify --since` looks for alerts without the record of a run.
    let mut searched = all_raised(&[]);
    searched.run = crate::result::UNKNOWN_RUN.into();
    let mut documents = vec![
        complete(),
        all_raised(&[("aks-np1-vmss000002", "user")]),
        silent_pool(),
        empty,
        searched,
    ];
    documents.extend(fixture::all());
    documents
}

/// What a document consists of, as a strict parser sees it.
#[derive(Default)]
pub(super) struct Parsed {
    pub elements: Vec<String>,
    attributes: Vec<(String, String)>,
    pub text: String,
}

impl Parsed {
    fn add(&mut self, tag: &BytesStart) {
        self.elements.push(tag.name().as_ref().to_owned());
        for attribute in tag.attributes() {
            let attribute = attribute.expect("each attribute is quoted and unique");
            let value = attribute
                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                .unwrap();
            self.attributes
                .push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
    }

    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let attributes = self.attributes.iter();
        attributes.filter_map(move |(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// Parses a document. Fails for elements that are not closed, ambiguous attributes and unknown entities.
fn parse(html: &str) -> Parsed {
    let mut reader = Reader::from_str(html);
    let mut parsed = Parsed::default();
    let mut depth = 0;
    loop {
        match reader
            .read_event()
            .unwrap_or_else(|error| panic!("{error} in {html}"))
        {
            Event::Start(tag) => {
                depth += 1;
                parsed.add(&tag);
            }
            Event::Empty(tag) => parsed.add(&tag),
            Event::End(_) => depth -= 1,
            Event::Text(text) => parsed.text += &text,
            Event::GeneralRef(reference) => {
                let name = reference.to_string();
                let number = reference.resolve_char_ref().unwrap().map(String::from);
                let known = quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned);
                parsed.text += &number.or(known).unwrap_or_else(|| panic!("&{name};"));
            }
            Event::DocType(text) => assert_eq!(&*text, "html"),
            Event::Eof => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(depth, 0);
    parsed
}

/// Asserts what holds for every document, whatever is in the result.
pub(super) fn assert_inert(html: &str) -> Parsed {
    let parsed = parse(html);
    for element in &parsed.elements {
        assert!(ELEMENTS.contains(&&**element), "{element} in {html}");
    }
    for (name, value) in &parsed.attributes {
        assert!(
            !name.starts_with("on") && !["src", "style", "srcset"].contains(&&**name),
            "{name}={value}"
        );
    }
    for link in parsed.values("href") {
        assert!(link.starts_with("https://") || link.starts_with('#'), "{link}");
    }
    let ids: Vec<&str> = parsed.values("id").collect();
    for target in parsed.values("href").filter_map(|link| link.strip_prefix('#')) {
        assert_eq!(ids.iter().filter(|id| **id == target).count(), 1, "{target}");
    }
    for label in parsed.values("aria-labelledby") {
        assert!(ids.contains(&label), "{label}");
    }
    assert!(!html.contains("<script"), "{html}");
    parsed
}

/// Replaces each text in `value` by what `form` makes of it, if the whole is a result afterwards.
fn mutate(root: &mut Value, path: &str, form: &impl Fn(&str) -> String, changed: &mut usize) {
    let children: Vec<String> = match root.pointer(path) {
        Some(Value::Object(map)) => map.keys().cloned().collect(),
        Some(Value::Array(list)) => (0..list.len()).map(|index| index.to_string()).collect(),
        Some(Value::String(text)) => {
            let (old, new) = (text.clone(), form(text));
            *root.pointer_mut(path).unwrap() = new.into();
            if serde_json::from_value::<RunResult>(root.clone()).is_ok() {
                *changed += 1;
            } else {
                *root.pointer_mut(path).unwrap() = old.into();
            }
            return;
        }
        _ => return,
    };
    for child in children {
        let child = child.replace('~', "~0").replace('/', "~1");
        mutate(root, &format!("{path}/{child}"), form, changed);
    }
}

#[test]
fn every_sample_is_inert_and_well_formed() {
    for result in samples() {
        assert_inert(&render(&result));
    }
}

#[test]
fn hostile_text_in_any_field_stays_text() {
    const TEXTS: [&str; 6] = [
        "<script>alert(1)</script>\"'&",
        "\"><script>alert(1)</script><img src=x onerror=alert(1)>",
        "</style></title></textarea>--><script>alert(1)//",
        "' onmouseover='alert(1)",
        "javascript:alert(1)",
        "{{ x }}{% include \"y\" %}&lt;&#60;]]>\u{0}\u{ffff}\u{202e}",
    ];
    for text in TEXTS {
        let mut value = serde_json::to_value(complete()).unwrap();
        let mut changed = 0;
        mutate(&mut value, "", &|_| text.to_owned(), &mut changed);
        assert!(changed > 90, "{changed}");
        let result: RunResult = serde_json::from_value(value).unwrap();
        let parsed = assert_inert(&export::render(export::Kind::Html, &result));
        let is_shown = |c: &char| in_xml(*c) && !untrusted::is_unseen(*c);
        let visible: String = text.chars().filter(is_shown).collect();
        let times = parsed.text.matches(&visible).count();
        assert!(times > 50, "{text} is shown {times} times");
    }
}

#[test]
fn every_text_is_shown_verbatim() {
    let value = serde_json::to_value(complete()).unwrap();
    // Not in the document: what the tables of other formats leave out too.
    let skipped = [
        "schema",
        "needs",
        "severity",
        "exit",
        "kubeconfigUser",
        "impersonated",
        "id",
        "resourceVersion",
        "name",
        "link",
        "status",
    ];
    let mut texts = vec![];
    collect(&value, "", &mut texts);
    let shown = parse(&render(&complete())).text;
    for (key, text) in texts {
        let is_time = text.parse::<Timestamp>().is_ok();
        if !is_time
            && !skipped.contains(&&*key)
            && !["raised", "notRaised", "notExpected", "notStarted"].contains(&&*text)
        {
            assert!(shown.contains(&text), "{key}: {text}");
        }
    }
}

fn collect(value: &Value, key: &str, texts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(value, key, texts)),
        Value::Array(list) => list.iter().for_each(|value| collect(value, key, texts)),
        Value::String(text) => texts.push((key.to_owned(), text.clone())),
        _ => {}
    }
}

#[test]
fn policy_permits_exactly_the_style_of_the_document() {
    let html = render(&fixture::mixed());
    let (_, rest) = html.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let hash = STANDARD.encode(Sha256::digest(style));
    let policy =
        format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    let parsed = parse(&html);
    assert!(
        parsed.values("content").any(|content| content == policy),
        "{policy}"
    );
    assert_eq!(html.matches("<style").count(), 1);
    // Both would make the style depend on how it is embedded.
    assert!(!style.contains(['<', '&', '\r']), "{style}");
    for loading in ["url(", "@import", "@font-face"] {
        assert!(!style.contains(loading), "{loading}");
    }
}

#[test]
fn tables_have_captions_and_their_headers_a_scope() {
    for result in samples() {
        let parsed = parse(&render(&result));
        let count = |name: &str| parsed.elements.iter().filter(|element| *element == name).count();
        assert_eq!(count("table"), count("caption"));
        assert_eq!(count("th"), parsed.values("scope").count());
        assert_eq!((count("main"), count("header"), count("h1")), (1, 1, 1));
        assert_eq!(parsed.values("lang").next(), Some("en"));
        let hidden = parsed.values("focusable").count();
        assert_eq!(count("svg"), hidden, "the charts repeat their tables");
    }
}

#[test]
fn links_that_are_not_https_are_text() {
    let mut result = fixture::verified();
    for link in [
        "http://x/",
        "javascript:alert(1)",
        "https://user:pass@x/",
        "data:text/html,x",
        "//x/",
    ] {
        let verification = result.verification.as_mut().unwrap();
        verification.additional[0].link = Some(link.into());
        let html = render(&result);
        assert!(!html.contains(&format!("href=\"{link}")), "{link}");
        assert!(html.contains("<th scope=\"row\">One more</th>"), "{link}");
    }
}

#[test]
fn matrix_has_a_column_for_each_victim_and_the_api() {
    let mut result = silent_pool();
    let steps = &mut result.scenarios[0].steps;
    let step = steps[0].clone();
    steps.push(StepResult { victim: None, ..step });
    let steps = Steps::of(&result);
    assert_eq!(steps.columns.len(), 11);
    assert_eq!(steps.columns[10].title, "Kubernetes API");
    let places = |row: usize| {
        steps.scenarios[0].rows[row]
            .cells
            .iter()
            .map(Vec::len)
            .collect::<Vec<_>>()
    };
    assert_eq!((places(0), steps.scenarios[0].rows.len()), (vec![1; 11], 3));
    assert_eq!(places(1), [vec![1; 10], vec![0]].concat());
    assert_eq!(steps.reasons, ["the web server refuses the connection"]);
}

#[test]
fn only_prerequisites_of_required_alerts_are_gaps() {
    let mut result = all_raised(&[("node", "pool")]);
    let facts = result.facts.as_mut().unwrap();
    facts.sensor = Fact::No("there is no sensor".into());
    for condition in [Condition::DriftPolicy, Condition::DnsDetection] {
        facts.conditions.insert(condition, Fact::No("not here".into()));
    }
    let subjects = |result: &RunResult| {
        gaps::gaps(result)
            .into_iter()
            .flat_map(|gap| gap.subjects)
            .collect::<Vec<_>>()
    };
    // No alert of these scenarios needs DNS detection.
    assert_eq!(subjects(&result), ["sensor", "binary drift"]);
    for alert in result
        .scenarios
        .iter_mut()
        .flat_map(|scenario| &mut scenario.alerts)
    {
        alert.optional |= alert.id == "binary-drift";
    }
    assert_eq!(subjects(&result), ["sensor"]);
}

#[test]
fn step_that_does_not_apply_is_no_failure() {
    let mut result = all_raised(&[("node", "pool")]);
    let step = &mut result.scenarios[1].steps[0];
    (step.outcome, step.reason) = (Outcome::Skipped, Some("no metadata service".into()));
    let tile = |result: &RunResult| tiles(result).swap_remove(0);
    assert_eq!(
        (tile(&result).class, &*tile(&result).note),
        ("good", "1 victim, 1 skipped")
    );
    result.scenarios[1].steps[0].reason = Some("not run: the pod is gone".into());
    result.scenarios[1].steps[0].started = None;
    assert_eq!(tile(&result).class, "bad");
    assert_eq!(tile(&fixture::mixed()).class, "bad");
}

#[test]
fn gaps_with_the_same_reason_are_one() {
    let mut result = fixture::verified();
    let verification = result.verification.as_mut().unwrap();
    for alert in &mut verification.alerts {
        alert.verdict = Verdict::NotRaised;
        alert.late = false;
        alert.reason = Some("the same".into());
    }
    let gaps = gaps::gaps(&result);
    let missing: Vec<&Gap> = gaps.iter().filter(|gap| gap.reason == "the same").collect();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].subjects.len(), 6);
    assert_eq!(
        missing[0].command.as_deref(),
        Some("kubectl defender-sim doctor --context prod")
    );
}

#[test]
fn verified_run_is_rendered_completely() {
    let html = render(&complete());
    // Other tests cover the style, whose hash changes with it.
    let (before, rest) = html.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let html = format!("{before}<style></style>{after}").replace(&hash, "HASH");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("report", html);
    });
}

/// Writes documents to look at: `HTML_REPORTS=FOLDER cargo test --lib report::html -- --ignored`.
#[test]
#[ignore = "writes files to look at"]
fn documents_to_look_at() {
    let folder = std::path::PathBuf::from(std::env::var_os("HTML_REPORTS").expect("HTML_REPORTS is set"));
    for (index, result) in samples().iter().enumerate() {
        std::fs::write(folder.join(format!("{index}.html")), render(result)).unwrap();
    }
}
