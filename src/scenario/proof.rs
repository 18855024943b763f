//! Reading the attacker's log: which step began, what the victim reported, how the request ended.
//!
//! The log is text from outside: whoever controls the pods can write anything into it. A line counts as
//! proof only with this run's nonce; every other line can at most explain a failure. Evidence goes through
//! [`untrusted::line`] before it goes anywhere.

use super::payload::MARK;
use crate::untrusted;

/// One line of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The attacker is about to send the request for a step.
    Begin {
        /// `<scenario>.<step>`.
        step: String,
    },
    /// The victim reports on a step, with the nonce it was given.
    Report(Report),
    /// The web server answered the attacker's curl.
    Http {
        /// Status code; 0 where there was no answer.
        code: u16,
    },
    /// The attacker's curl ended.
    End {
        /// `<scenario>.<step>`.
        step: String,
        /// Exit status of curl.
        curl: u8,
    },
    /// The attacker went through all steps.
    Done,
}

/// What the victim says of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `<scenario>.<step>`.
    pub step: String,
    /// Exit status of the step's script.
    pub status: u8,
    /// How long the script ran, in microseconds, by the victim's clock.
    pub micros: u64,
    /// Last line of the script's standard error, made safe to show.
    pub evidence: String,
}

/// Reads one line of the attacker's log; `None` for anything that is not the protocol, and for a report
/// without this run's nonce.
pub fn parse(line: &str, nonce: &str) -> Option<Line> {
    let rest = line.trim_end().strip_prefix(MARK)?.strip_prefix(' ')?;
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "begin" => Some(Line::Begin {
            step: rest.to_owned(),
        }),
        "http" => Some(Line::Http {
            code: rest.parse().ok()?,
        }),
        "end" => {
            let (step, curl) = rest.split_once(' ')?;
            Some(Line::End {
                step: step.to_owned(),
                curl: curl.parse().ok()?,
            })
        }
        "done" => Some(Line::Done),
        given if given == nonce => {
            let mut words = rest.splitn(4, ' ');
            Some(Line::Report(Report {
                step: words.next()?.to_owned(),
                status: words.next()?.parse().ok()?,
                micros: words.next()?.parse().ok()?,
                evidence: untrusted::line(words.next().unwrap_or_default()),
            }))
        }
        _ => None,
    }
}

/// What an exit status of the attacker's curl means; the web shell ran nothing in these cases.
/// Source: curl's manual, "Exit codes".
pub fn curl_failure(status: u8) -> String {
    match status {
        6 => "the attacker could not resolve the victim's name".into(),
        7 => "the victim's web server refused the connection".into(),
        28 => "the victim's web server did not answer in time".into(),
        52 => "the victim's web server closed the connection without an answer".into(),
        56 => "the connection to the victim's web server broke".into(),
        127 => "curl is not in the attacker's image".into(),
        other => format!("the attacker's curl failed with exit status {other}"),
    }
}

/// Whether an exit status of the attacker's curl means that the victim does not accept or broke the connection.
pub fn is_disconnect(status: u8) -> bool {
    matches!(status, 7 | 52 | 56)
}

/// What an HTTP status of the web shell means for a step that did not report.
pub fn http_failure(code: u16) -> String {
    match code {
        0 => "the victim's web server gave no answer".into(),
        200 => "the web shell answered, but the step's script reported nothing".into(),
        403 => "the victim's web server refused the request (HTTP 403)".into(),
        404 => "the victim's web server has no web shell (HTTP 404)".into(),
        502 | 503 => format!("the victim's web server has no PHP behind it (HTTP {code})"),
        504 => "the step outlived the web server's read timeout (HTTP 504)".into(),
        other => format!("the victim's web server answered HTTP {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_needs_the_nonce_of_this_run() {
        let line = "defender-sim/1 abc recon.read-token 0 12000 a token of 900 bytes";
        let report = Report {
            step: "recon.read-token".into(),
            status: 0,
            micros: 12_000,
            evidence: "a token of 900 bytes".into(),
        };
        assert_eq!(parse(line, "abc"), Some(Line::Report(report)));
        assert_eq!(parse(line, "abd"), None);
    }

    #[test]
    fn other_lines() {
        assert_eq!(
            parse("defender-sim/1 begin recon.x", "n"),
            Some(Line::Begin {
                step: "recon.x".into()
            })
        );
        assert_eq!(
            parse("defender-sim/1 http 502", "n"),
            Some(Line::Http { code: 502 })
        );
        assert_eq!(
            parse("defender-sim/1 end recon.x 7", "n"),
            Some(Line::End {
                step: "recon.x".into(),
                curl: 7
            })
        );
        assert_eq!(parse("defender-sim/1 done", "n"), Some(Line::Done));
        for noise in [
            "",
            "hello",
            "defender-sim/1",
            "defender-sim/1 n",
            "defender-sim/1 n a b c",
            "x defender-sim/1 done",
        ] {
            assert_eq!(parse(noise, "n"), None, "{noise:?}");
        }
    }

    #[test]
    fn evidence_is_cleaned() {
        let line = "defender-sim/1 abc recon.x 0 1 found eyJhbGciOiJSUzI1NiJ9.e30.x \u{1b}[31mhere";
        let Some(Line::Report(report)) = parse(line, "abc") else {
            panic!("it has the nonce");
        };
        assert_eq!(report.evidence, "found <redacted> [31mhere");
    }
}
