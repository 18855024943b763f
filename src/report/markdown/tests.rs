use super::*;
use crate::exit::Exit;
use crate::report::fixture;
use crate::result::UnattributedAlert;

#[test]
fn every_outcome_has_its_line() {
    assert_eq!(
        render(&fixture::mixed()),
        "\
## ❌ Attack simulation: 1 of 4 steps proved

<code>one</code> <code>two</code> · run <code>k7</code> · namespace <code>sim</code> of context <code>prod</code> at \
         <code>https://192.0.2.1</code> as <code>jane</code> · node <code>node-1</code> · \
         2026-01-02 03:04:05 to 03:04:17 UTC · kubectl defender-sim 1.2.3

| Step | Title | Result | Time | Evidence |
| --- | --- | --- | --- | --- |
| one.look | the look one | ✅ proved | 1.2 s | <code>3 pods seen</code> |
| one.fetch | the fetch one | ❌ failed | 20 ms | <code>exit status 1</code>; <code>no route</code> |
| two.send | the send one | ⛔ blocked | - | <code>timed out</code> |
| two.read | the read one | ➖ skipped | - | <code>no such service</code> |

| Expected alert | Severity | Needs |
| --- | --- | --- |
| Alpha | high |  |
| Beta | unknown | a sensor |

**Cleanup:** 2 objects removed, nothing left.

**Exit code 4:** a step was not proved.
"
    );
}

#[test]
fn title_is_what_defender_raised_once_that_is_known() {
    let assert_title = |result: &RunResult, title: &str| {
        assert_eq!(
            render(result).lines().next(),
            Some(format!("## {title}").as_str())
        );
    };
    let mut result = fixture::verified();
    assert_title(&result, "❌ Defender raised 2 of 6 expected alerts, 1 too late");
    (result.exit, result.exit_code) = (Exit::Ok, 0);
    result.verification.as_mut().unwrap().failure = None;
    assert_title(&result, "⏳ Defender raised 2 of 6 expected alerts, 1 too late");
    result.verification.as_mut().unwrap().alerts.truncate(1);
    assert_title(&result, "✅ Defender raised 1 of 1 expected alert");
    let mut unclean = result.clone();
    unclean.exit = Exit::LeftBehind;
    assert_title(&unclean, "⚠️ Defender raised 1 of 1 expected alert");
    let mut unread = result.clone();
    unread.verification_problem = fixture::not_started().problem;
    assert_title(&unread, "❌ Defender raised 1 of 1 expected alert");
    unread.verification = None;
    assert_title(&unread, "❌ Alerts could not be read");

    let mut baseline = result.clone();
    baseline.verification.as_mut().unwrap().alerts.clear();
    baseline.verification.as_mut().unwrap().failure = Some("no alert was expected".into());
    assert_title(&baseline, "❌ Defender raised 1 unexpected alert");
    baseline.verification.as_mut().unwrap().additional.clear();
    baseline.verification.as_mut().unwrap().failure = None;
    assert_title(&baseline, "✅ Defender raised no alert");

    result.verification = None;
    assert_title(&result, "✅ Attack simulation: 1 of 4 steps proved");
}

#[test]
fn header_has_what_is_known_and_the_date_once() {
    let header = |change: fn(&mut RunResult)| {
        let mut result = fixture::mixed();
        change(&mut result);
        header(&result)
    };
    let next_day = header(|result| result.ended = "2026-01-03T00:00:01Z".parse().unwrap());
    let part = " · 2026-01-02 03:04:05 to 2026-01-03 00:00:01 UTC · ";
    assert!(next_day.contains(part), "{next_day}");
    let unknown = header(|result| {
        result.run = crate::result::UNKNOWN_RUN.to_owned();
        result.victims = vec![];
        (result.cluster.context, result.cluster.user) = (None, None);
    });
    let start = "<code>one</code> <code>two</code> · namespace <code>sim</code> at <code>https://192.0.2.1</code> · 2026";
    assert!(unknown.starts_with(start), "{unknown}");
}

#[test]
fn leftovers_are_shown_and_never_folded() {
    let mut result = fixture::unclean();
    let end = "\n**Cleanup:** 1 removed, LEFT BEHIND: pod/b.\n\n- <code>pod/b: forbidden</code>\n\n**Exit code 6:** \
               objects were left behind, or cleanup could not be verified.\n";
    let text = render(&result);
    assert!(text.ends_with(end), "{text}");
    result.verification = fixture::verified().verification;
    let text = render(&result);
    assert!(text.ends_with(&format!("</details>\n{end}")), "{text}");
}

#[test]
fn meaning_of_the_exit_code_is_true_of_a_verification_too() {
    let last = |result: &RunResult| render(result).lines().last().unwrap().to_owned();
    // Every alert was raised by a run with a failed step and objects left behind.
    let mut seen = fixture::unclean();
    seen.verification = fixture::verified().verification;
    let verification = seen.verification.as_mut().unwrap();
    verification.alerts.truncate(1);
    verification.failure = None;
    (seen.exit, seen.exit_code) = (Exit::Ok, 0);
    assert_eq!(
        last(&seen),
        "**Exit code 0:** the alerts pass: none is known to be missing or unexpected."
    );
    seen.verification_problem = fixture::not_started().problem;
    let text = render(&seen);
    assert!(
        text.contains("\n**Alerts were not read completely:** <code>"),
        "{text}"
    );
    let mut stopped = seen;
    (stopped.exit, stopped.exit_code) = (Exit::Interrupted, 130);
    assert_eq!(last(&stopped), "**Exit code 130:** interrupted.");
}

#[test]
fn problem_is_first_and_alone_if_no_step_ran() {
    let text = render(&fixture::not_started());
    let end = "1.2.3\n\n**Error:** <code>pods is forbidden</code>\n\n- <code>in namespace sim</code>\n\n**Hint:** \
               <code>kubectl auth can-i create pods</code>\n\n**Exit code 3:** could not start: unreachable, \
               missing rights, or refused.\n";
    assert!(text.ends_with(end), "{text}");
    // The same with verified alerts, here without a cleanup.
    let mut result = fixture::not_started();
    result.verification = fixture::verified().verification;
    let text = render(&result);
    assert!(
        !text.contains("<details>") && !text.contains("| Step |"),
        "{text}"
    );
}

#[test]
fn shared_reason_is_below_the_table_once() {
    let mut result = fixture::mixed();
    for step in &mut result.scenarios[1].steps {
        step.reason = Some("the victim's web server refused the connection".into());
    }
    let text = render(&result);
    let part = "\
| two.send | the send one | ⛔ blocked | - | <code>(1)</code> |
| two.read | the read one | ➖ skipped | - | <code>not run (1)</code> |

- <code>(1) the victim's web server refused the connection</code>
";
    assert!(text.contains(part), "{text}");
    // The reason of a problem is only in the error.
    let mut result = fixture::not_started();
    result.scenarios[0].steps[0] = fixture::mixed().scenarios[0].steps[0].clone();
    let text = render(&result);
    assert_eq!(text.matches("pods is forbidden").count(), 1, "{text}");
    assert!(
        text.contains("| ➖ skipped | - | <code>not run</code> |"),
        "{text}"
    );
}

#[test]
fn alert_that_cannot_be_raised_is_not_expected() {
    let mut result = fixture::mixed();
    for alert in result
        .scenarios
        .iter_mut()
        .flat_map(|scenario| &mut scenario.alerts)
    {
        if alert.name == "Beta" {
            alert.not_expected = Some("there is no sensor".into());
        } else {
            alert.optional = true;
        }
    }
    let tables = "\
| Expected alert | Severity | Needs |
| --- | --- | --- |
| Alpha | high | none (optional) |

| Alert not expected | Reason |
| --- | --- |
| Beta | there is no sensor |
";
    let text = render(&result);
    assert!(text.contains(tables), "{text}");
}

#[test]
fn text_from_outside_is_no_markup() {
    assert_eq!(
        plain(fixture::HOSTILE),
        "a&#124;b \\`c\\` &lt;b&gt;&amp;amp;&lt;/b&gt;  \\]\\]&gt;  \\[31m\u{ffff} \\\\&#124; @all \"q\" \\*d\\* \\$e\\$"
    );
    let (usual, hostile) = (render(&fixture::unclean()), render(&fixture::hostile()));
    let columns = |text: &str| -> Vec<usize> {
        let rows = text.lines().filter(|line| line.starts_with('|'));
        rows.map(|row| row.matches('|').count()).collect()
    };
    assert_eq!(columns(&usual), columns(&hostile));
    assert!(!hostile.contains("<b>"), "{hostile}");
    let usual = fixture::verified();
    let mut hostile = fixture::hostile();
    hostile.verification.clone_from(&usual.verification);
    let verification = hostile.verification.as_mut().unwrap();
    for alert in &mut verification.alerts {
        alert.name = fixture::HOSTILE.into();
        alert.reason = alert.reason.as_ref().map(|_| fixture::HOSTILE.into());
    }
    let raised = verification
        .alerts
        .iter_mut()
        .filter_map(|alert| alert.raised.as_mut());
    for raised in raised.chain(&mut verification.additional) {
        raised.name = fixture::HOSTILE.into();
        raised.severity = Some(fixture::HOSTILE.into());
        raised.link = Some(format!("https://p/{}", fixture::HOSTILE));
    }
    verification.source = fixture::HOSTILE.into();
    verification.failure = Some(fixture::HOSTILE.into());
    verification.contradictions = vec![fixture::HOSTILE.into()];
    let (usual, hostile) = (render(&usual), render(&hostile));
    assert_eq!(columns(&usual), columns(&hostile));
    assert!(!hostile.contains("<b>"), "{hostile}");
}

#[test]
fn alerts_are_first_and_steps_are_folded_after_verification() {
    let mut result = fixture::verified();
    let verification = result.verification.as_mut().unwrap();
    verification.contradictions = vec!["no sensor, but \"x\" was raised".into()];
    verification.unattributed = vec![UnattributedAlert {
        id: String::new(),
        name: "Beta".into(),
        reason: "it names no pod".into(),
    }];
    let text = render(&result);
    let alerts = "
**Failure:** <code>1 of 6 expected alerts were raised</code>

| Alert | Verdict | Severity | Time to detect | Reason |
| --- | --- | --- | --- | --- |
| [The alpha alert](https://portal.example/1) | ✅ raised | High | 40 min |  |
| The missing alert | ❌ not raised |  | - |  |
| The open alert | ⏳ waiting |  | - |  |
| The absent alert | ➖ not applicable |  | - | step not proved: one.fetch |
| The drift alert | ❔ unknown |  | - | it needs a drift policy |
| [The late alert](https://portal.example/1) | ⏰ raised too late | High | 40 min | too late: after 2400 s, not within 30m |

| Other alert of this run | Severity |
| --- | --- |
| [One more](https://portal.example/1) | High |

| Alert that may be of this run | Unknown because |
| --- | --- |
| Beta | it names no pod |

**Warning:** <code>no sensor, but \"x\" was raised</code>

As of 2026-05-04T11:00:00Z in Azure Resource Graph.

<details><summary>1 of 4 steps proved, cleanup verified</summary>

| Step | Title |";
    assert!(text.contains(alerts), "{text}");
    let end = "
**Cleanup:** 2 objects removed, nothing left.

</details>

**Exit code 5:** an alert is missing or unexpected, or alerts could not be read.
";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn link_of_an_alert_is_https_and_stays_in_its_cell() {
    let mut raised = fixture::verified().verification.unwrap().additional.remove(0);
    let mut linked = |url: &str| {
        raised.link = Some(url.to_owned());
        link("a|b](c", Some(&raised))
    };
    for (url, destination) in [
        ("https://p/#blade/A_b*c/x", "https://p/#blade/A_b*c/x"),
        ("https://p/a?b=1&copy=2", "https://p/a?b=1&amp;copy=2"),
        ("https://p/a)b(c|d e`f$g", "https://p/a%29b%28c%7Cd%20e%60f%24g"),
        (
            "https://p/?q=|`\\<b>\"#|\\",
            "https://p/?q=%7C%60%5C%3Cb%3E%22#%7C%5C",
        ),
        ("https://p/a\n| x |", "https://p/a%7C%20x%20%7C"),
    ] {
        assert_eq!(linked(url), format!("[a&#124;b\\](c]({destination})"), "{url}");
    }
    for url in [
        "",
        "http://p/",
        "javascript:alert(1)",
        "data:text/html,x",
        "/relative",
        "https://",
        "https://portal.azure.com@p/",
    ] {
        assert_eq!(linked(url), "a&#124;b\\](c", "{url}");
    }
}
