//! The handover to a SOC as text for a terminal and as Markdown.

use std::fmt::Write;

use super::markdown::{code, link_to, list, period, plain, table as markdown_table};
use super::table::{fill, table};
use super::{Width, json};
use crate::result::{Handover, HandoverAlert, OutstandingAlert, RuleProposal, RunMarks, Verdict};

const SHARED: &str = "Nothing was read or changed in Azure.";
const TIME: &str = "%Y-%m-%d %H:%M:%S";

/// Formats a handover for a terminal; `verify` is the command that verifies the alerts of the run.
pub(super) fn text(handover: &Handover, verify: &str, width: Width) -> String {
    let run = &handover.run;
    let title = format!(
        "Run {} of kubectl defender-sim {}: {}. Alerts about it are a test. {SHARED}",
        run.id,
        handover.version,
        run.scenarios.join(" ")
    );
    let mut text = fill(&title, "") + "\n\nHOW TO RECOGNIZE THE RUN\n";
    let marks = marks(run);
    let longest = marks.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, values) in marks {
        let line = format!("  {name:longest$}  {}", values.join(", "));
        // A single word is not split, so that it can be copied.
        let is_word = values.len() == 1 && !values[0].contains(' ');
        let line = if is_word {
            line
        } else {
            fill(&line, &" ".repeat(longest + 4))
        };
        let _ = writeln!(text, "{line}");
    }
    text += "\nALERTS OF THE RUN\n";
    for alert in &handover.alerts {
        alert_lines(&mut text, alert, width);
    }
    let _ = writeln!(text, "{}", fill(&format!("  {}", read(handover)), "  "));
    if handover.verification.read.is_none() {
        let _ = writeln!(text, "  Check its alerts with:\n  {verify}");
    }
    let open = handover.outstanding.iter();
    let open = open.map(|alert| vec![alert.name.clone(), state(alert).to_owned()]);
    if !handover.outstanding.is_empty() {
        text += "\n";
        text += &table(&["OTHER EXPECTED ALERTS", "STATE"], open, width);
    }
    let unknown = handover.unattributed.iter();
    let unknown = unknown.map(|alert| vec![alert.name.clone(), alert.reason.clone()]);
    if !handover.unattributed.is_empty() {
        text += "\n";
        text += &table(
            &["ALERTS THAT MAY BE OF THE RUN", "UNKNOWN BECAUSE"],
            unknown,
            width,
        );
    }
    for (title, query) in queries(handover) {
        let _ = write!(text, "\n{}\n\n{}", title.to_uppercase(), indented(query));
    }
    if let Some(note) = precision(run) {
        let _ = writeln!(text, "\n{}", fill(&note, ""));
    }
    text + &rules(handover, width)
}

/// Formats the proposed rules.
fn rules(handover: &Handover, width: Width) -> String {
    let suppression = &handover.suppression;
    let mut text = "\nPROPOSED SUPPRESSION RULES (none was created)\n".to_owned();
    for caveat in &suppression.caveats {
        let _ = writeln!(text, "{}", fill(&format!("  - {caveat}"), "    "));
    }
    if let Some(first) = suppression.rules.first() {
        let _ = write!(
            text,
            "\n  {} {}\n{}",
            first.method,
            first.path,
            indented(&body(first))
        );
    }
    let others = other_rules(handover).map(|cells| cells.map(str::to_owned).to_vec());
    if suppression.rules.len() > 1 {
        text += "\n";
        text += &table(&["THE SAME FOR ALERT TYPE", "WITH RULE NAME"], others, width);
    }
    let without = suppression.without.iter();
    let without = without.map(|alert| vec![alert.name.clone(), alert.reason.clone()]);
    if !suppression.without.is_empty() {
        text += "\n";
        text += &table(&["NO RULE FOR", "BECAUSE"], without, width);
    }
    text
}

/// Formats a handover as Markdown.
pub(super) fn markdown(handover: &Handover) -> String {
    let run = &handover.run;
    let scenarios: Vec<String> = run.scenarios.iter().map(|id| code(id)).collect();
    let mut text = format!(
        "## Attack simulation: the alerts of run {} are a test\n\n{} by kubectl defender-sim {} · {}\n\n{SHARED}\n",
        code(&run.id),
        scenarios.join(" "),
        plain(&handover.version),
        period(run.started, run.ended)
    );
    text += "\n### How to recognize the run\n";
    list(
        &mut text,
        marks(run).into_iter().map(|(name, values)| {
            let values: Vec<String> = values.iter().map(|value| code(value)).collect();
            format!("{name}: {}", values.join(", "))
        }),
    );
    text += "\n### Alerts of the run\n";
    let optional = |text: &Option<String>| plain(text.as_deref().unwrap_or("unknown"));
    let rows = handover.alerts.iter().map(|alert| {
        [
            link_to(&alert.name, alert.link.as_deref()),
            optional(&alert.severity),
            optional(&alert.status),
            alert
                .generated
                .map_or_else(|| "unknown".to_owned(), |time| time.strftime(TIME).to_string()),
            code(&alert.id),
        ]
    });
    markdown_table(
        &mut text,
        ["Alert", "Severity", "Status", "Raised (UTC)", "ID"],
        rows,
    );
    let _ = writeln!(text, "\n{}", plain(&read(handover)));
    if handover.verification.read.is_none() {
        let _ = writeln!(
            text,
            "\nCheck its alerts with: {}",
            code(&format!("kubectl defender-sim verify {}", run.id))
        );
    }
    let rows = handover.outstanding.iter();
    let rows = rows.map(|alert| [plain(&alert.name), state(alert).to_owned()]);
    markdown_table(&mut text, ["Other expected alert", "State"], rows);
    let rows = handover.unattributed.iter();
    let rows = rows.map(|alert| [plain(&alert.name), plain(&alert.reason)]);
    markdown_table(
        &mut text,
        ["Alert that may be of the run", "Unknown because"],
        rows,
    );
    for (title, query) in queries(handover) {
        let _ = write!(text, "\n### {title}\n\n```kql\n{query}\n```\n");
    }
    if let Some(note) = precision(run) {
        let _ = writeln!(text, "\n{}", plain(&note));
    }
    text += "\n### Proposed suppression rules (none was created)\n";
    let suppression = &handover.suppression;
    list(&mut text, suppression.caveats.iter().map(|caveat| plain(caveat)));
    if let Some(rule) = suppression.rules.first() {
        let (path, body) = (code(&rule.path), body(rule));
        let _ = write!(text, "\n{} {path}\n\n```json\n{body}```\n", rule.method);
    }
    let others = other_rules(handover).map(|cells| cells.map(code));
    markdown_table(&mut text, ["The same for alert type", "With rule name"], others);
    let rows = suppression.without.iter();
    let rows = rows.map(|alert| [plain(&alert.name), plain(&alert.reason)]);
    markdown_table(&mut text, ["No rule for", "Because"], rows);
    text
}

/// Returns the marks of a run that are known.
fn marks(run: &RunMarks) -> Vec<(&'static str, Vec<String>)> {
    let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
    let cluster = &run.cluster;
    let mut time = period(run.started, run.ended) + ", by the clock of the cluster";
    if let Some(seconds) = run.clock_offset_seconds.filter(|seconds| *seconds != 0) {
        let _ = write!(time, " ({seconds:+} s to that of the client)");
    }
    let marks = [
        ("Time", vec![time]),
        ("Alerts start", vec![period(run.from, run.until)]),
        (
            "Alerts until",
            vec![format!("{} UTC", run.alerts_until.strftime(TIME))],
        ),
        ("Cluster", vec![cluster.to_string()]),
        ("Resource ID", one(&cluster.resource_id)),
        ("Namespace", vec![run.namespace.clone()]),
        ("Also acted in", run.other_namespaces.clone()),
        ("Pods", run.pods.clone()),
        ("Nodes", run.nodes.clone()),
        ("Service account", one(&run.service_account)),
        ("Objects", run.objects.clone()),
        ("Label", one(&run.selector)),
        ("User agent", one(&run.user_agent)),
    ];
    let marks = marks.into_iter();
    marks.filter(|(_, values)| !values.is_empty()).collect()
}

/// Adds the lines of an alert.
fn alert_lines(text: &mut String, alert: &HandoverAlert, width: Width) {
    const INDENT: usize = 16;
    let severity = alert.severity.as_deref().unwrap_or("-");
    let line = format!("  {severity:13} {}", alert.name);
    let _ = writeln!(text, "{}", fill(&line, &" ".repeat(INDENT)));
    let generated = alert
        .generated
        .map(|time| format!("raised {} UTC", time.strftime(TIME)));
    let facts = alert.status.clone().into_iter().chain(generated);
    let facts = facts.collect::<Vec<_>>().join(", ");
    let id = (width == Width::Wide || alert.link.is_none()).then_some(&alert.id);
    // Not wrapped, so that they can be copied.
    for line in [Some(&facts), alert.link.as_ref(), id].into_iter().flatten() {
        if !line.is_empty() {
            let _ = writeln!(text, "{}{line}", " ".repeat(INDENT));
        }
    }
}

/// Returns when and where the alerts were read.
fn read(handover: &Handover) -> String {
    let verification = &handover.verification;
    let problem = verification.problem.as_ref();
    let (Some(read), Some(source)) = (&verification.read, &verification.source) else {
        let problem = problem.map_or_else(String::new, |problem| format!(": {problem}"));
        return format!("The alerts of this run were not verified{problem}.");
    };
    let none = if handover.alerts.is_empty() {
        "No alert was raised, as"
    } else {
        "As"
    };
    let problem = problem.map_or_else(String::new, |problem| {
        format!(" Not all could be read: {problem}.")
    });
    format!("{none} of {read:.0} in {source}.{problem}")
}

fn state(alert: &OutstandingAlert) -> &'static str {
    alert.verdict.map_or("not verified", Verdict::as_str)
}

fn queries(handover: &Handover) -> [(&'static str, &str); 2] {
    let queries = &handover.queries;
    [
        ("Query for Azure Resource Graph", &queries.resource_graph),
        (
            "Query for Log Analytics and Microsoft Sentinel",
            &queries.log_analytics,
        ),
    ]
}

/// Returns what else the queries may match.
fn precision(run: &RunMarks) -> Option<String> {
    let mut unknown = vec![];
    if run.cluster.resource_id.is_none() {
        unknown.push("clusters: the resource ID of this one is unknown");
    }
    if run.pods.is_empty() {
        unknown.push("objects in the namespace: the run had no pods");
    }
    let unknown = unknown.join("; ");
    (!unknown.is_empty()).then(|| format!("The queries may also match alerts about other {unknown}."))
}

/// Returns the body of the request that would create a rule.
fn body(rule: &RuleProposal) -> String {
    json(&rule.body)
}

/// Returns alert type and name of each rule but the first: the bodies differ in the type only.
fn other_rules(handover: &Handover) -> impl Iterator<Item = [&str; 2]> {
    let rules = handover.suppression.rules.iter().skip(1);
    rules.map(|rule| [&*rule.body.properties.alert_type, name(rule)])
}

/// Returns the name of a rule.
fn name(rule: &RuleProposal) -> &str {
    let path = rule.path.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

fn indented(text: &str) -> String {
    let lines = text.lines();
    lines.flat_map(|line| ["  ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests;
