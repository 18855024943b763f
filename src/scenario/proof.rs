//! Parses the attacker's log: which step began, what the victim reported, how the request ended.
//!
//! The log is untrusted text: anyone who controls the pods can write anything into it. A report counts only with its
//! proof, which the caller compares with [`crate::plan::Plan::proof`]; every other line can at most explain a failure.
//! Evidence passes through [`untrusted::line`] before it is used.

use super::payload::MARK;
use crate::untrusted;

/// A line of the protocol, about one victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The attacker sent a request without the key.
    Gate {
        /// Whether all steps were sent before it; otherwise none was.
        after: bool,
        /// How the request ended.
        answer: Answer,
    },
    /// The attacker is about to send the request for a step.
    Begin {
        /// `<scenario>.<step>`.
        step: String,
    },
    /// The victim reports on a step.
    Report(Report),
    /// The web server answered the attacker's curl.
    Http {
        /// Status code; 0 if there was no response.
        code: u16,
    },
    /// The attacker's curl ended.
    End {
        /// `<scenario>.<step>`.
        step: String,
        /// Exit status of curl.
        curl: u8,
    },
    /// The attacker is done with the victim.
    Done,
}

/// How a request without the key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code; 0 if there was no response.
    pub code: u16,
    /// Exit status of curl.
    pub curl: u8,
}

/// The victim's report on a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Proof that only the victim can compute, and only with this step's request.
    pub proof: String,
    /// The text that it proves: everything after the step's ID.
    pub text: String,
    /// `<scenario>.<step>`.
    pub step: String,
    /// Exit status of the step's script.
    pub status: u8,
    /// Run time of the script in microseconds, by the victim's clock.
    pub micros: u64,
    /// Last line of the script's standard error, sanitized for output.
    pub evidence: String,
}

/// Parses a line of an attacker's log into the host name of the victim and the message. Returns `None` if it is not a
/// line of the protocol.
pub fn parse(line: &str) -> Option<(&str, Line)> {
    // The gate trims the same characters from its report before it computes the proof.
    let line = line.trim_end_matches([' ', '\t', '\n', '\r', '\0', '\x0b']);
    let (victim, rest) = line.strip_prefix(MARK)?.strip_prefix(' ')?.split_once(' ')?;
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((victim, parse_word(word, rest)?))
}

fn parse_word(word: &str, rest: &str) -> Option<Line> {
    match word {
        "gate" => {
            let mut words = rest.splitn(3, ' ');
            Some(Line::Gate {
                after: match words.next()? {
                    "before" => false,
                    "after" => true,
                    _ => return None,
                },
                answer: Answer {
                    code: words.next()?.parse().ok()?,
                    curl: words.next()?.parse().ok()?,
                },
            })
        }
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
        "report" => {
            let (proof, rest) = rest.split_once(' ')?;
            let (step, text) = rest.split_once(' ')?;
            let mut words = text.splitn(3, ' ');
            Some(Line::Report(Report {
                proof: proof.to_owned(),
                text: text.to_owned(),
                step: step.to_owned(),
                status: words.next()?.parse().ok()?,
                micros: words.next()?.parse().ok()?,
                evidence: untrusted::line(words.next().unwrap_or_default()),
            }))
        }
        _ => None,
    }
}

/// Describes an exit status of the attacker's curl. The web shell ran nothing in these cases.
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

/// Describes an HTTP status of the web shell for a step that did not report.
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
    fn report_keeps_the_text_that_its_proof_covers() {
        let line = "defender-sim/2 victim report abc recon.read-token 0 12000 a token of 900 bytes";
        let report = Report {
            proof: "abc".into(),
            text: "0 12000 a token of 900 bytes".into(),
            step: "recon.read-token".into(),
            status: 0,
            micros: 12_000,
            evidence: "a token of 900 bytes".into(),
        };
        assert_eq!(parse(line), Some(("victim", Line::Report(report))));
    }

    #[test]
    fn other_lines() {
        let said = |text: &str| {
            let line = format!("{MARK} victim-2 {text}");
            parse(&line).map(|(victim, line)| {
                assert_eq!(victim, "victim-2");
                line
            })
        };
        assert_eq!(
            said("begin recon.x"),
            Some(Line::Begin {
                step: "recon.x".into()
            })
        );
        assert_eq!(said("http 502"), Some(Line::Http { code: 502 }));
        assert_eq!(
            said("end recon.x 7"),
            Some(Line::End {
                step: "recon.x".into(),
                curl: 7
            })
        );
        for (word, after) in [("before", false), ("after", true)] {
            let answer = Answer { code: 403, curl: 0 };
            assert_eq!(
                said(&format!("gate {word} 403 0")),
                Some(Line::Gate { after, answer })
            );
        }
        assert_eq!(said("done"), Some(Line::Done));
        for noise in [
            "",
            "hello",
            "defender-sim/2",
            "defender-sim/2 victim",
            "defender-sim/1 victim done",
            "defender-sim/2 victim n",
            "defender-sim/2 victim n a 0 1 c",
            "defender-sim/2 victim report",
            "defender-sim/2 victim report a b 0",
            "defender-sim/2 victim report a b c 1",
            "defender-sim/2 victim gate before 403",
            "defender-sim/2 victim gate during 403 0",
            "x defender-sim/2 victim done",
        ] {
            assert_eq!(parse(noise), None, "{noise:?}");
        }
    }

    #[test]
    fn evidence_is_cleaned() {
        let line =
            "defender-sim/2 victim report abc recon.x 0 1 found eyJhbGciOiJSUzI1NiJ9.e30.x \u{1b}[31mhere";
        let Some((_, Line::Report(report))) = parse(line) else {
            panic!("not a report");
        };
        assert_eq!(report.evidence, "found <redacted> [31mhere");
    }
}
