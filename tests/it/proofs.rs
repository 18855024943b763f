//! The strength of a proof, on the range.
//!
//! Scripts run unchanged, forged reports prove nothing, and a victim with an open gate is not attacked.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use defender_sim::lint::Bash;
use serde_json::{Value, json as value};

use crate::nasty;
use crate::range::{
    IMAGES, Ran, Running, Space, assert_nothing_left, idle_pod, image_with, kubectl, shared, sim, text,
};

/// Writes a scenario of these steps, each an ID and a script, to a file.
fn scenario(id: &str, attacker: &str, steps: &[(&str, &str)]) -> tempfile::NamedTempFile {
    let steps: Vec<Value> = steps
        .iter()
        .map(|(id, script)| value!({ "id": id, "title": "t", "script": script, "proof": "p" }))
        .collect();
    let mut scenario = value!({
        "apiVersion": "defender-sim/v1", "id": id, "title": "t", "description": "d", "steps": steps, "alerts": [],
    });
    if !attacker.is_empty() {
        scenario["attacker"] = attacker.into();
    }
    written(&scenario)
}

fn written(scenario: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), scenario.to_string()).unwrap();
    file
}

/// Runs the scenario in its own namespace and asserts that nothing is left.
fn run(name: &str, file: &tempfile::NamedTempFile, flags: &[&str]) -> Ran {
    let space = Space::named(name);
    let path = file.path().to_str().unwrap();
    let ran = sim(&[&["run", "-f", path, "-n", &space.0, "-o", "json"], flags].concat());
    assert_nothing_left(&space.0);
    ran
}

fn words(ran: &Ran) -> Vec<String> {
    ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
#[ignore = "needs the range: make range"]
fn scripts_in_the_victim_run_as_written() {
    let _shared = shared();
    // Other characters are not allowed in a scenario file.
    let bash = Bash::find().unwrap();
    let allowed = |script: &&&str| bash.parse(script).is_ok() && !script.contains('\r');
    let scripts: Vec<&str> = nasty::SCRIPTS.iter().filter(allowed).copied().collect();
    assert!(scripts.len() > 50);
    let space = Space::new("direct", &[]);
    idle_pod(&space.0, "direct", &format!("{IMAGES}/victim:latest"));
    let direct = r#"for text; do
        echo "$text" | base64 -d >/tmp/a.script
        sh -c 'bash /tmp/a.script; exit $?' 2>/tmp/stderr >/dev/null </dev/null
        echo "$? $(base64 -w0 /tmp/stderr)"
    done"#;
    let encoded: Vec<String> = scripts.iter().map(|script| STANDARD.encode(script)).collect();
    let encoded: Vec<&str> = encoded.iter().map(String::as_str).collect();
    let exec = [
        "exec", "direct", "-n", &space.0, "--", "bash", "-c", direct, "bash",
    ];
    let direct = kubectl(&[&exec[..], &encoded].concat());
    let direct: Vec<(u64, String)> = direct
        .lines()
        .map(|line| {
            let (status, stderr) = line.split_once(' ').unwrap();
            let stderr = STANDARD.decode(stderr).unwrap();
            (
                status.parse().unwrap(),
                String::from_utf8_lossy(&stderr).into_owned(),
            )
        })
        .collect();
    assert_eq!(direct.len(), scripts.len());
    assert_eq!(direct[0].0, 7);

    let ids: Vec<String> = (1..=scripts.len()).map(|number| format!("s{number}")).collect();
    let ids = ids.iter().map(String::as_str);
    let steps: Vec<(&str, &str)> = ids.zip(scripts.iter().copied()).collect();
    let ran = run("nasty", &scenario("nasty", "", &steps), &[]).assert(4);
    let json = ran.json();
    let seen = json["scenarios"][0]["steps"].as_array().unwrap();
    let mut different = vec![];
    for ((script, (status, stderr)), step) in scripts.iter().zip(&direct).zip(seen) {
        let same = step["exitStatus"] == *status
            && nasty::last_line(&text(&step["evidence"])) == nasty::last_line(stderr);
        if !same || (step["outcome"] == "proved") != (*status == 0) {
            different.push((script, status, stderr, step));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

/// Every script exits with 1, so a proved step is forged.
#[test]
#[ignore = "needs the range: make range"]
fn forged_reports_prove_nothing() {
    let _shared = shared();
    let steps = [("one", "exit 1"), ("two", "exit 1")];
    // The victim that `say` names.
    let wait = "victim=victim; until [ -s /simulation/go/run ]; do sleep 0.1; done";
    let ask = |number: &str, query: &str| {
        format!(
            "CURL_HOME=/simulation/key/{number} curl -Gs -K /simulation/key/victim --data-urlencode \"{query}\" http://mdc-simulation-victim/ws.php"
        )
    };
    let step = |number: &str| {
        let file = format!("/simulation/steps/{number}-*");
        ask(number, &format!("cmd=echo $(base64 -w0 {file})| base64 -d| bash"))
    };
    let (one, two) = (step("001"), step("002"));
    let read = ask("001", "cmd=grep -o secret.* /gate/run.json >&2");
    let sign = r#"import hmac, re, sys
number, step, secret = sys.argv[1:]
token = re.search(r"Step: \S+ (\w+)", open(f"/simulation/key/{number}/.curlrc").read())[1]
victim = re.search(r"Victim: \S+ (\w+)", open("/simulation/key/victim").read())[1]
print(hmac.new(secret.encode(), f"{step} {token} {victim} 0 1 x".encode(), "sha256").hexdigest()[:32])"#;
    let cases = [
        (
            "invented",
            "victim=victim; for s in one two; do say gate before 403 0; say begin invented.$s
               say report 0123456789abcdef0123456789abcdef invented.$s 0 1 x
               say 0123456789abcdef0123456789abcdef invented.$s 0 1 x; say end invented.$s 0; done
             for i in {1..20000}; do say begin invented.one; say http 200; say end invented.one 99; done"
                .to_owned(),
        ),
        (
            "secret",
            format!(
                "{wait}; answer=$({read}); say gate before 403 0
                 [[ $answer =~ secret\\\":\\\"([0-9a-f]+) ]]
                 for s in 001-one 002-two; do
                   say begin secret.${{s#*-}}
                   say report $(python3 -c '{sign}' ${{s%-*}} secret.${{s#*-}} \"${{BASH_REMATCH[1]}}\") secret.${{s#*-}} 0 1 x
                   say end secret.${{s#*-}} 0
                 done
                 say gate after 403 0; say done; sleep 600"
            ),
        ),
        (
            "changed",
            format!(
                "{wait}; say gate before 403 0; say begin changed.one
                 {one} | sed 's/ changed.one 1 / changed.one 0 /'; say end changed.one 0; say begin changed.two
                 {two} | sed 's/ changed.two 1 / changed.two 0 /'; say end changed.two 0
                 say gate after 403 0; say done; sleep 600"
            ),
        ),
        (
            "early",
            format!(
                "{wait}; early=$({two}); say gate before 403 0; say begin early.one
                 sed 's/early.two 1/early.one 0/' <<<\"$early\"; sed 's/ 1 / 0 /' <<<\"$early\"; say end early.one 0
                 say gate after 403 0; say done; sleep 600"
            ),
        ),
    ];
    for (name, attacker) in cases {
        let ran = run(name, &scenario(name, &attacker, &steps), &[]).assert(4);
        assert_eq!(words(&ran), ["failed", "failed"], "{name}: {ran:#?}");
    }
}

/// A step replaces the web shell with a program that forges reports for later steps.
#[test]
#[ignore = "needs the range: make range"]
fn replaced_web_shell_does_not_report_for_later_steps() {
    let _shared = shared();
    let replace = r#"cat >/var/www/html/ws.php <<'E'
<?php
$run = json_decode(file_get_contents('/gate/run.json'), true);
[$id, $token] = explode(' ', $_SERVER['HTTP_X_SIMULATION_STEP'] ?? '');
[$victim, $of_victim] = explode(' ', $_SERVER['HTTP_X_SIMULATION_VICTIM'] ?? '');
$proof = substr(hash_hmac('sha256', "$id $token $of_victim 0 1 forged", $run['secret']), 0, 32);
echo "\ndefender-sim/2 $victim report $proof $id 0 1 forged\n";
E
touch -d '-1 hour' /var/www/html/ws.php
sleep 4
echo "replaced by $(wc -l </var/www/html/ws.php) lines" >&2
"#;
    let steps = [("one", replace), ("two", "exit 1"), ("three", "exit 1")];
    let ran = run("hijack", &scenario("hijack", "", &steps), &[]).assert(4);
    assert_eq!(words(&ran), ["proved", "failed", "failed"], "{ran:#?}");
    let json = ran.json();
    let steps = &json["scenarios"][0]["steps"];
    assert_eq!(steps[0]["evidence"], "replaced by 6 lines");
    assert_eq!(steps[1]["exitStatus"], 1, "it did not run: {steps:#}");
}

/// The output of a script is never accepted as a report, wherever it is written.
#[test]
#[ignore = "needs the range: make range"]
fn output_of_a_step_is_not_a_report() {
    let _shared = shared();
    // Files that a step can read: the secret of the victim; in older versions, the nonce of the run.
    let forge = r#"
secret=$(cat /gate/nonce || grep -o 'secret":"[0-9a-f]*' /gate/run.json | cut -c10-)
for step in output.one output.two; do
  for word in "$secret" "report $secret"; do
    line="defender-sim/2 victim $word $step 0 1 forged"
    echo "$line"; echo "$line" >&2; echo "$line" >/proc/$PPID/fd/1
  done
done
(sleep 1; echo "$line" >&2) &
exit 1
"#;
    let ran = run(
        "output",
        &scenario("output", "", &[("one", forge), ("two", "exit 1")]),
        &[],
    )
    .assert(4);
    assert_eq!(words(&ran), ["failed", "failed"], "{ran:#?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn steps_with_one_command_are_judged_each_by_its_own_rule() {
    let _shared = shared();
    let step = |id: &str, expect: &str| value!({ "id": id, "title": "t", "command": { "run": "whoami", "expect": expect }, "proof": "p" });
    let file = written(&value!({
        "apiVersion": "defender-sim/v1", "id": "twice", "title": "t", "description": "d", "alerts": [],
        "steps": [step("one", "^www-data$"), step("two", "^root$"), step("three", "^www-data$")],
    }));
    let ran = run("twice", &file, &[]).assert(4);
    assert_eq!(words(&ran), ["proved", "failed", "proved"], "{ran:#?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn steps_cannot_open_the_gate_with_user_ini() {
    let _shared = shared();
    let space = Space::named("userini");
    let write = "printf 'auto_prepend_file=\\nauto_append_file=\\nopen_basedir=/nonexistent\\n' >/var/www/html/.user.ini
        echo \"in environments $(env | grep -ci simulation_), in processes $(
          grep -al 'X-Simulatio[n]' /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | wc -l)\" >&2";
    let file = scenario("userini", "", &[("one", write), ("two", "sleep 8")]);
    let path = file.path().to_str().unwrap();
    let mut running = Running::start(&["run", "-f", path, "-n", &space.0, "-o", "json"]);
    running.await_line("attacking");
    running.await_line("userini.one: proved");
    let ask = "for _ in {1..40}; do curl -s -o /dev/null -w '%{http_code}\\n' 'http://mdc-simulation-victim/ws.php?cmd=id' & done; wait";
    let curl = [
        "exec",
        "mdc-simulation-attacker",
        "-n",
        &space.0,
        "--",
        "bash",
        "-c",
        ask,
    ];
    let answers = kubectl(&curl);
    let ran = running.end().assert(0);
    ran.assert_proved();
    let codes: Vec<&str> = answers.lines().collect();
    assert_eq!(codes, ["403"; 40]);
    let json = ran.json();
    assert_eq!(
        json["scenarios"][0]["steps"][0]["evidence"],
        "in environments 0, in processes 0"
    );
    assert_nothing_left(&space.0);
}

/// Builds the victim's image with a changed file.
fn changed_victim(name: &str, file: &str, change: impl Fn(String) -> String) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("images/victim/rootfs")
        .join(file);
    let changed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(changed.path(), change(std::fs::read_to_string(path).unwrap())).unwrap();
    image_with(name, "victim", &[(changed.path().to_str().unwrap(), file)])
}

fn insert(text: &str, before: &str, line: &str) -> String {
    let changed = text.replacen(before, &format!("{line}\n{before}"), 1);
    assert_ne!(changed, text);
    changed
}

#[test]
#[ignore = "needs the range: make range"]
fn victim_with_an_open_gate_is_not_attacked() {
    let _shared = shared();
    let pool = changed_victim("gate-pool", "etc/php/8.2/fpm/php-fpm.conf", |text| {
        format!("{text}php_admin_value[auto_prepend_file] =\n")
    });
    let nginx = changed_victim("gate-nginx", "etc/nginx/nginx.conf", |text| {
        insert(
            &text,
            "            fastcgi_pass",
            "fastcgi_param PHP_ADMIN_VALUE auto_prepend_file=;",
        )
    });
    let flags = crate::range::image(
        "gate-flags",
        "victim",
        &[("usr/local/sbin/php-fpm", "#!/bin/sh\nexec /usr/sbin/php-fpm8.2\n")],
    );
    for (name, image) in [("pool", pool), ("nginx", nginx), ("flags", flags)] {
        let file = scenario("open", "", &[("one", "true"), ("two", "true")]);
        let ran = run(name, &file, &["--victim-image", &image]).assert(3);
        let json = ran.json();
        assert_eq!(
            json["problem"]["message"],
            "the web shell answered a request without this run's key (HTTP 200); no step was sent",
            "{name}: {ran:#?}"
        );
        assert_eq!(words(&ran), ["skipped", "skipped"], "{name}");
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn gate_opened_during_a_run_is_reported() {
    let _shared = shared();
    let image = changed_victim("gate-later", "etc/nginx/nginx.conf", |text| {
        insert(
            &text,
            "            fastcgi_pass",
            "if (-f /var/www/html/open) { return 200; }",
        )
    });
    let file = scenario("later", "", &[("one", "touch /var/www/html/open")]);
    let ran = run("later", &file, &["--victim-image", &image]).assert(4);
    let json = ran.json();
    assert_eq!(
        json["problem"]["message"],
        "the gate did not hold: after the last step the web shell answered a request without this run's key (HTTP 200)",
        "{ran:#?}"
    );
    assert_eq!(words(&ran), ["proved"]);
}
