//! `lint`, and planning a run: every mistake in a scenario file is reported with its location, and nothing else is.

use std::path::Path;
use std::process::Command;

use defender_sim::lint::Bash;
use defender_sim::scenario::{Scenario, catalogue};
use serde_json::{Value, json};

use crate::files::{Folder, GOOD, finish};
use crate::nasty;

/// Asserts the output of `lint` for a text, without the file name: `expected` are the beginnings of its lines.
#[track_caller]
fn assert_lint(text: &str, expected: &[&str]) {
    let folder = Folder::new();
    folder.write("mine.yaml", text);
    let ran = folder.run(&["lint", "mine.yaml"]);
    let is_bad = expected.iter().any(|line| line.contains(" error: "));
    let mut lines: Vec<String> = expected.iter().map(|line| format!("mine.yaml:{line}")).collect();
    if !is_bad {
        lines.push("mine.yaml: ok (mine, 1 step)".to_owned());
    }
    let printed: Vec<&str> = ran.stderr.lines().collect();
    let is_said = |(printed, line): (&&str, &String)| printed.starts_with(line.as_str());
    assert!(
        printed.len() == lines.len() && printed.iter().zip(&lines).all(is_said),
        "{text}\n{printed:#?}\n{lines:#?}"
    );
    let unseen = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!ran.stderr.contains(unseen) && ran.stdout.is_empty(), "{ran:#?}");
    let code = if is_bad { 2 } else { 0 };
    ran.assert(code);

    let run = folder.run(&["run", "-f", "mine.yaml", "--dry-run"]).assert(code);
    for line in lines.iter().filter(|line| line.contains(" error: ")) {
        let line = format!("  {}", line.replacen(" error: ", " ", 1));
        assert!(
            run.stderr.lines().any(|printed| printed.starts_with(&line)),
            "{line}\n{run:#?}"
        );
    }
}

fn with_title(title: &str) -> String {
    GOOD.replacen("title: t", &format!("title: {title}"), 1)
}

/// Returns a scenario with another script, whose lines are indented by four spaces.
fn with_script(script: &str) -> String {
    GOOD.replace("echo hi >&2\n    exit 0", script)
}

/// Returns a scenario with additional fields in its step.
fn with_fields(fields: &str) -> String {
    GOOD.replace("  proof: p\n", &format!("  proof: p\n{fields}\n"))
}

fn with_egress(list: &str) -> String {
    format!("{GOOD}needs:\n  egress: [{list}]\n")
}

#[test]
fn file_has_one_document_and_each_key_once() {
    for text in [
        GOOD.to_owned(),
        format!("{GOOD}---\n"),
        format!("{GOOD}---"),
        format!("---\n{GOOD}...\n"),
        format!("{GOOD}---\n# c\n"),
        GOOD.replace('\n', "\r\n"),
        format!("{GOOD}---\n").replace('\n', "\r\n"),
    ] {
        assert_lint(&text, &[]);
    }
    for (text, expected) in [
        (
            String::new(),
            "1:1: error: expected a scenario, found an empty file",
        ),
        (
            "# c\n---\n".to_owned(),
            "1:1: error: expected a scenario, found an empty file",
        ),
        (format!("{GOOD}---\n{GOOD}"), "15:1: error: expected one document"),
        (with_fields("  id: two"), "12:3: error: steps[0].id: given twice"),
        (format!("{GOOD}title: t\n"), "14:1: error: title: given twice"),
        (
            with_fields("  blocked: {9: x, 9: y}"),
            "12:19: error: steps[0].blocked.9: given twice",
        ),
        (
            with_fields("  title:"),
            "12:3: error: steps[0].title: given twice",
        ),
    ] {
        assert_lint(&text, &[expected]);
    }
}

#[test]
fn exit_statuses_are_numbers_from_1_to_255() {
    for status in ["256", "-1", "one", "1.5", "''", "~"] {
        for field in ["blocked", "skipped"] {
            let printed = format!("12:13: error: steps[0].{field}: expected an exit status from 1 to 255");
            assert_lint(&with_fields(&format!("  {field}: {{{status}: x}}")), &[&printed]);
        }
    }
    assert_lint(&with_fields("  blocked: {1: x}\n  skipped: {255: x}"), &[]);
    let zero = "12:12: error: steps[0].blocked: exit status 0 always means proved";
    assert_lint(&with_fields("  blocked: {0: x}"), &[zero]);
}

#[test]
fn titles_and_the_like_have_one_line() {
    let line = "expected one line (in YAML, >- joins lines)";
    assert_lint(&with_title("|-\n  a"), &[]);
    assert_lint(&with_title(">-\n  a\n  b"), &[]);
    for (text, place, field) in [
        (with_title("|\n  a\n  b"), "4:3", "title"),
        (with_title("|\n  a"), "4:3", "title"),
        (with_title("\"a\\nb\""), "3:8", "title"),
        (
            GOOD.replace("  title: t", "  title: \"a\\nb\""),
            "7:10",
            "steps[0].title",
        ),
        (
            GOOD.replace("proof: p", "proof: \"a\\nb\""),
            "11:10",
            "steps[0].proof",
        ),
        (
            with_fields("  blocked: {9: \"a\\n\"}"),
            "12:16",
            "steps[0].blocked.9",
        ),
        (
            with_fields("  skipped: {9: \"a\\n\"}"),
            "12:16",
            "steps[0].skipped.9",
        ),
        (
            GOOD.replace(
                "script: |\n    echo hi >&2\n    exit 0\n",
                "command: {run: a, expect: \"a\\nb\"}\n",
            ),
            "8:29",
            "steps[0].command.expect",
        ),
        (format!("{GOOD}leaves: [a, \"a\\nb\"]\n"), "14:13", "leaves[1]"),
        (
            format!("{GOOD}needs: {{tools: [\"a\\nb\"]}}\n"),
            "14:17",
            "needs.tools[0]",
        ),
    ] {
        assert_lint(&text, &[&format!("{place}: error: {field}: {line}")]);
    }
}

#[test]
fn addresses_have_a_port() {
    assert_lint(&with_egress("\"a:80\", \"a/24, port 1\", \"[::1]:80\""), &[]);
    let error = |place: &str, index: usize, found: &str| {
        let expected = "expected an address with a port, such as example.com:443";
        format!("{place}: error: needs.egress[{index}]: {expected}, found {found:?}")
    };
    let text = with_egress("10.0.0.1, \"https://h/v1\", \"h:99999\", \"a\\nb:80\"");
    let expected = [
        error("15:12", 0, "10.0.0.1"),
        error("15:22", 1, "https://h/v1"),
        error("15:38", 2, "h:99999"),
        error("15:49", 3, "a\nb:80"),
    ];
    assert_lint(&text, &expected.each_ref().map(String::as_str));
}

#[test]
fn characters_that_do_not_show_are_named() {
    let error = |place: &str, code: &str| {
        format!("{place}{code}; control characters and marks that do not show are not allowed")
    };
    // Written as an escape sequence, in a text of any field.
    for (escape, code) in [
        ("\\e", "U+001B"),
        ("\\0", "U+0000"),
        ("\\r", "U+000D"),
        ("\\r\\n", "U+000D"),
        ("\\x7F", "U+007F"),
        ("\\N", "U+0085"),
        ("\\u009B", "U+009B"),
        ("\\L", "U+2028"),
        ("\\u200B", "U+200B"),
        ("\\u202E", "U+202E"),
        ("\\u2066", "U+2066"),
        ("\\uFEFF", "U+FEFF"),
        ("\\U000E0041", "U+E0041"),
    ] {
        let text = format!("{GOOD}attacker: \"true #{escape}\"\n");
        assert_lint(&text, &[&error("14:11: error: attacker: found ", code)]);
    }
    let text = with_fields("  skipped: {9: \"\\e\"}\n  techniques: [T1046]")
        + "environment: {A: \"\\e\"}\nleaves: [\"\\e\"]\nneeds: {tools: [\"\\e\"], egress: [\"\\e:1\"]}\n";
    let fields = [
        ("12:16", "steps[0].skipped.9"),
        ("16:18", "environment.A"),
        ("17:10", "leaves[0]"),
        ("18:17", "needs.tools[0]"),
        ("18:33", "needs.egress[0]"),
    ];
    let expected = fields.map(|(place, field)| error(&format!("{place}: error: {field}: found "), "U+001B"));
    assert_lint(&text, &expected.each_ref().map(String::as_str));
    // Unescaped. Errors of the parser have no field.
    for (c, field) in [
        ('\u{202e}', "3:8: error: title: "),
        ('\u{200b}', "3:8: error: title: "),
        ('\u{9b}', "3:9: error: "),
        ('\u{1b}', "3:9: error: "),
        ('\u{7}', "3:9: error: "),
        ('\u{7f}', "3:9: error: "),
        ('\0', "3:9: error: "),
    ] {
        let code = format!("U+{:04X}", u32::from(c));
        let printed = error(&format!("{field}found "), &code);
        assert_lint(&with_title(&format!("a{c}b")), &[&printed]);
        let comment = GOOD.replace("description: d", &format!("description: d # {c}"));
        assert_lint(&comment, &[&error("4:18: error: found ", &code)]);
    }
    assert_lint(&with_script("printf 'a\tb' >&2"), &[]);
    let key = "14:1: error: no<U+001B>pe: unknown field ";
    assert_lint(&format!("{GOOD}\"no\\epe\": x\n"), &[key]);
    let key = error("14:1: error: found ", "U+001B");
    assert_lint(&format!("{GOOD}\u{1b}[2Jnope: x\n"), &[&key]);
}

#[test]
fn scripts_that_bash_cannot_parse_are_refused() {
    for (text, place, printed) in [
        (
            with_script("if [ ; then"),
            "9:5: error: steps[0].script",
            "syntax error: unexpected end of file",
        ),
        (
            with_script("if true; then\n\n      exit 1\n    fi;\n    done"),
            "13:5: error: steps[0].script",
            "syntax error near unexpected token `done'",
        ),
        (
            with_script("[[ a ]\n    exit 0"),
            "9:5: error: steps[0].script",
            "conditional binary operator expected",
        ),
        (
            GOOD.replace("script: |\n    echo hi >&2\n    exit 0", "script: \"true\\n)\""),
            "8:11: error: steps[0].script",
            "syntax error near unexpected token `)'",
        ),
        (
            GOOD.replace(
                "script: |\n    echo hi >&2\n    exit 0",
                "command: {run: whoami ), expect: a}",
            ),
            "8:18: error: steps[0].command.run",
            "syntax error near unexpected token `)'",
        ),
        (
            format!("{GOOD}attacker: |\n  for\n"),
            "15:3: error: attacker",
            "syntax error near unexpected token `newline'",
        ),
    ] {
        assert_lint(&text, &[&format!("{place}: bash cannot parse it: {printed}")]);
    }
    for script in [
        "shopt -s extglob\n    ls !(a)",
        "cat <<E >&2\n    the end is missing",
        "touch ran; exit 3",
        "case a in a) ;;& b) ;& esac |& cat",
    ] {
        assert_lint(&with_script(script), &[]);
    }
}

#[test]
fn scripts_are_parsed_by_bash_alone_and_not_run() {
    let folder = Folder::new();
    folder.write("env", "touch env-ran\n");
    folder.write(
        "mine.yaml",
        with_script("touch script-ran\n    $(touch substitution-ran)"),
    );
    let mut command = folder.command(&["lint", "mine.yaml"]);
    command
        .env("BASH_ENV", "env")
        .env("SHELLOPTS", "xtrace")
        .env("LC_ALL", "de_DE.UTF-8");
    finish(command, b"").assert(0);
    let mut names: Vec<_> = std::fs::read_dir(folder.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["env", "mine.yaml"]);
}

/// Every script that bash refuses to parse when it runs it from a file.
#[test]
fn nasty_scripts_are_refused_only_if_bash_refuses_them() {
    let bash = Bash::find().unwrap();
    let folder = Folder::new();
    let mut refused = 0;
    for script in nasty::SCRIPTS {
        let file = folder.write("script", script);
        let output = Command::new("bash").arg("-n").arg(&file).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_bad = stderr.contains("syntax error") || stderr.contains("unexpected EOF");
        assert_eq!(bash.parse(script).is_err(), is_bad, "{script:?}: {stderr}");
        refused += usize::from(is_bad);
    }
    assert!(refused > 5 && refused + 50 < nasty::SCRIPTS.len(), "{refused}");
}

#[test]
fn scripts_are_not_checked_without_a_usable_bash() {
    let folder = Folder::new();
    folder.write("mine.yaml", with_script("if"));
    let bin = folder.0.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for (bash, reason) in [
        (None, "bash not found"),
        (Some("#!/bin/sh\necho 3\n"), "bash 3 is too old"),
        (
            Some("#!/bin/sh\necho 'install a distribution'\n"),
            "bash does not run",
        ),
        (Some("#!/bin/sh\nexit 1\n"), "bash does not run"),
    ] {
        if let Some(bash) = bash {
            script(&bin.join("bash"), bash);
        }
        let path = |arguments: &[&str]| {
            let mut command = folder.command(arguments);
            command.env("PATH", &bin);
            finish(command, b"").assert(0)
        };
        let printed =
            format!("mine.yaml: warning: scripts not checked: {reason}\nmine.yaml: ok (mine, 1 step)\n");
        assert_eq!(path(&["lint", "mine.yaml"]).stderr, printed);
        assert_eq!(path(&["run", "-f", "mine.yaml", "--dry-run"]).stderr, "");
    }
}

fn script(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "the mistakes of several files")]
fn every_mistake_in_every_file_is_found_at_once() {
    let bad = with_egress("h")
        .replace("id: mine", "id: Mine")
        .replace("exit 0", "fi")
        .replace("  title: t", "  title: \"\\e\\n\"");
    let expected = [
        "2:5: error: id: expected lower-case words joined by -, 40 characters at most, found \"Mine\"",
        "7:10: error: steps[0].title: expected one line",
        "7:10: error: steps[0].title: found U+001B",
        "10:5: error: steps[0].script: bash cannot parse it: syntax error near unexpected token `fi'",
        "15:12: error: needs.egress[0]: expected an address with a port",
    ];
    assert_lint(&bad, &expected);

    let folder = Folder::new();
    folder.write("good.yaml", GOOD);
    folder.write(
        "quiet.yaml",
        GOOD.replace("alerts:\n- id: web-shell", "alerts: []"),
    );
    folder.write("bad.yaml", &bad);
    folder.write("\u{1b}[2J.yaml", "steps: 1");
    let files = [
        "good.yaml",
        "bad.yaml",
        "quiet.yaml",
        "none.yaml",
        "\u{1b}[2J.yaml",
    ];
    let lint = |more: &[&str]| folder.run(&[&["lint"], &files[..], more].concat()).assert(2);
    let ran = lint(&[]);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(
        (lines.len(), lines[0]),
        (10, "good.yaml: ok (mine, 1 step)"),
        "{ran:#?}"
    );
    for (line, expected) in lines[1..6].iter().zip(expected) {
        assert!(line.starts_with(&format!("bad.yaml:{expected}")), "{line}");
    }
    assert_eq!(
        lines[6..],
        [
            "quiet.yaml:12:9: warning: alerts: no alert is expected",
            "quiet.yaml: ok (mine, 1 step)",
            "none.yaml: error: failed to read it: No such file or directory (os error 2)",
            "<U+001B>[2J.yaml:1:8: error: steps: expected sequence start",
        ]
    );
    assert_eq!(ran.stdout, "");
    let quiet = lint(&["-q"]).stderr;
    assert_eq!(
        (quiet.lines().count(), quiet.contains(": ok (")),
        (8, false),
        "{quiet}"
    );

    let ran = lint(&["-o", "json"]);
    let found = ran.json();
    assert_eq!(
        found[2],
        json!({
            "file": "quiet.yaml", "scenario": "mine", "errors": [],
            "warnings": [{ "line": 12, "column": 9, "field": "alerts", "message": "no alert is expected" }],
        })
    );
    let error = &found[1]["errors"][4];
    assert_eq!(
        (&error["line"], &error["column"], &error["field"]),
        (&json!(15), &json!(12), &json!("needs.egress[0]"))
    );
    let error = json!([{ "line": null, "column": null, "field": "", "message": "failed to read it: No such file or directory (os error 2)" }]);
    assert_eq!(
        (&found[3]["errors"], &found[3]["scenario"]),
        (&error, &Value::Null)
    );
    assert_eq!(found[4]["file"], "<U+001B>[2J.yaml");
    let yaml: Value = serde_saphyr::from_str(&lint(&["-o", "yaml"]).stdout).unwrap();
    assert_eq!(yaml, found);
    assert_eq!(lint(&["-o", "name"]).stdout, "mine\nmine\n");

    let named = files.iter().flat_map(|file| ["-f", file]);
    let run: Vec<&str> = ["run", "--dry-run"].into_iter().chain(named).collect();
    let ran = folder.run(&run).assert(2);
    assert!(
        ran.stderr
            .starts_with("error: bad.yaml, none.yaml, <U+001B>[2J.yaml cannot be used\n  bad.yaml:2:5: id: "),
        "{ran:#?}"
    );
    assert_eq!(ran.stderr.lines().count(), 1 + 5 + 1 + 1 + 1, "{ran:#?}");
}

#[test]
fn scenarios_that_cannot_share_a_run_are_refused_at_planning() {
    let folder = Folder::new();
    let crypto = serde_saphyr::to_string(catalogue::find("crypto").unwrap()).unwrap();
    folder.write("crypto.yaml", crypto.replace("id: crypto", "id: mine"));
    folder.write(
        "variable.yaml",
        format!("{GOOD}environment: {{AWS_SECRET_ACCESS_KEY: other}}\n"),
    );
    let whoami = serde_saphyr::to_string(catalogue::find("webshell").unwrap()).unwrap();
    folder.write("whoami.yaml", whoami.replace("id: webshell", "id: mine"));
    for (arguments, printed) in [
        (
            &["run", "crypto", "-f", "crypto.yaml"][..],
            &["scenarios crypto and mine both start a server on port 80 of the attacker"][..],
        ),
        (
            &["run", "secrets", "crypto", "crypto", "-f", "variable.yaml"],
            &[
                "scenario crypto is named twice",
                "scenarios secrets and mine set the variable AWS_SECRET_ACCESS_KEY to different values",
            ],
        ),
        (
            &["run", "-f", "whoami.yaml", "-f", "whoami.yaml"],
            &["scenario mine is named twice"],
        ),
        // The gate identifies a step by its id, so that two may have the same command.
        (&["run", "webshell", "-f", "whoami.yaml"], &[]),
        (&["run", "recon", "-f", "crypto.yaml"], &[]),
        (&["all"], &[]),
    ] {
        let ran = folder.run(&[arguments, &["--dry-run"]].concat());
        let expected = if printed.is_empty() {
            String::new()
        } else {
            let printed = printed.join("\n  ");
            format!(
                "error: these scenarios cannot share a run\n  {printed}\nhint: run them one after the other\n"
            )
        };
        assert_eq!(ran.stderr, expected, "{arguments:?}");
        ran.assert(if printed.is_empty() { 0 } else { 2 });
    }
}

#[test]
fn described_scenarios_are_fine() {
    let folder = Folder::new();
    for scenario in catalogue::all() {
        let file = folder
            .run(&["describe", &scenario.id, "-o", "yaml"])
            .assert(0)
            .stdout;
        let ran = folder.run_with(&["lint", "-"], file.as_bytes()).assert(0);
        let steps = scenario.steps.len();
        let plural = if steps == 1 { "" } else { "s" };
        let ok = format!("<stdin>: ok ({}, {steps} step{plural})\n", scenario.id);
        let warning = ran.stderr.strip_suffix(&ok).unwrap();
        let expected = scenario.alerts.is_empty();
        assert_eq!(
            warning.contains("warning: alerts: no alert is expected"),
            expected,
            "{warning}"
        );
        assert_eq!(warning.lines().count(), usize::from(expected), "{warning}");
        assert_eq!(Scenario::from_yaml(&file).unwrap(), *scenario);
    }
}
