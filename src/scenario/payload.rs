//! From a step to the text that bash runs in the victim.
//!
//! The text travels as the original does: base64 in the query of one web-shell request. It wraps the
//! step's script so that the victim itself reports, in one line, this run's nonce (which only the victim
//! can read), the step, the exit status, the time it took and the last line of standard error. Standard
//! output goes nowhere: that is where a token would be. [`super::proof`] reads the line.

use super::Step;

/// First word of every line of the protocol between the pods and this program.
pub const MARK: &str = "defender-sim/1";
/// Where the victim finds the nonce that proves a report comes from it.
pub const NONCE_FILE: &str = "/gate/nonce";
/// nginx refuses a longer request line (`large_client_header_buffers`, 8 KiB by default).
pub const MAX_REQUEST_LINE: usize = 8 * 1024;
/// Evidence is cut to this many characters before it leaves the victim.
pub const MAX_EVIDENCE: usize = 160;

/// The text that bash reads in the victim for one step.
///
/// ```
/// # use defender_sim::scenario::{catalogue, payload};
/// let step = &catalogue::find("recon").unwrap().steps[0];
/// assert!(payload::victim_script("recon.read-token", step).contains("cat /var/run/secrets"));
/// ```
pub fn victim_script(id: &str, step: &Step) -> String {
    // The script runs in a subshell, so that its own `exit` ends only itself.
    format!(
        "# {title}\n\
         t=${{EPOCHREALTIME/[.,]/}}\n\
         e=$({{\n{script}\n}} 2>&1 >/dev/null </dev/null)\n\
         s=$?\n\
         d=$((${{EPOCHREALTIME/[.,]/}} - t))\n\
         e=${{e##*$'\\n'}}\n\
         read -r n <{NONCE_FILE}\n\
         printf '\\n%s\\n' \"{MARK} $n {id} $s $d ${{e:0:{MAX_EVIDENCE}}}\"\n",
        title = step.title,
        script = step.script.trim_end(),
    )
}

/// Bytes of the request line that carries `script` in the worst case: base64 of it inside
/// `cmd=echo ...| base64 -d| bash`, percent-encoded by curl.
pub fn request_line_length(script: &str) -> usize {
    let base64 = script.len().div_ceil(3) * 4;
    // Of the base64 alphabet only `+`, `/` and `=` are escaped (3 bytes instead of 1).
    // A share of 1 in 16 for each of them is far above what text gives.
    let escaped = base64 + base64 / 8 * 2;
    escaped + "GET /ws.php?cmd=echo%20%7C%20base64%20-d%7C%20bash HTTP/1.1\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::catalogue;

    /// Runs the text with the machine's own bash, the nonce file replaced by one of the test's.
    fn run(script: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let nonce = dir.path().join("nonce");
        std::fs::write(&nonce, "abc123\n").unwrap();
        let step = Step {
            script: script.into(),
            ..catalogue::find("recon").unwrap().steps[0].clone()
        };
        let text = victim_script("demo.step", &step).replace(NONCE_FILE, nonce.to_str().unwrap());
        let output = std::process::Command::new("bash")
            .arg("-c")
            .arg(text)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_report_has_nonce_status_time_and_the_last_line_of_stderr() {
        let report = run("echo secret; echo first >&2; echo last line >&2; exit 7");
        let words: Vec<&str> = report.trim().splitn(6, ' ').collect();
        assert_eq!(&words[..4], [MARK, "abc123", "demo.step", "7"]);
        assert!(words[4].parse::<u64>().is_ok());
        assert_eq!(words[5], "last line");
        assert!(
            !report.contains("secret"),
            "standard output must stay in the victim"
        );
    }

    #[test]
    fn a_script_that_bash_cannot_parse_reports_nothing() {
        assert_eq!(run("if true; then"), "");
    }

    #[test]
    fn a_comment_at_the_end_and_a_here_document_do_no_harm() {
        assert!(run("cat >&2 <<E\nhello\nE\n# done").contains(" demo.step 0 "));
    }
}
