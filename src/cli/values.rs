//! Parsers of single values on the command line. Each error completes "invalid value ...: ".

use std::convert::Infallible;
use std::time::Duration;

use http::Uri;
use jiff::Timestamp;
use secrecy::SecretString;

use super::args::CronJobName;
use crate::azure::LoginKind;
use crate::defender::alerts;
use crate::defender::facts::Premise;
use crate::manifest;
use crate::plan::Cover;
use crate::plan::RunId;
use crate::report::{ReportFile, export};
use crate::scenario::catalogue::Family;

/// Parses a run ID, also in the format of `-o name`: `run/q33wg4p3`.
pub(super) fn run(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("run/").unwrap_or(text);
    if RunId::matches(id) {
        Ok(id.to_owned())
    } else {
        Err("expected a run ID: eight lower-case letters and digits".to_owned())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form clap wants of a value parser")]
pub(super) fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Parses a label that is valid in Kubernetes (see "Labels and Selectors" there) and not reserved by this program.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = qualified(text)?;
    let fits = value.is_empty() || (value.len() <= 63 && is_name(&value));
    if fits {
        Ok((key, value))
    } else {
        Err("expected a value of 63 letters, digits, -, _ and . at most".to_owned())
    }
}

/// Parses an annotation: a key as for labels, and any value.
pub(super) fn annotation(text: &str) -> Result<(String, String), String> {
    qualified(text)
}

/// Parses a label to match, not to set: none is reserved.
pub(super) fn node_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = key_value(text)?;
    key_fits(&key)?;
    Ok((key, value))
}

/// Parses how nodes are grouped.
pub(super) fn cover(text: &str) -> Result<Cover, String> {
    match text {
        "node-pool" => Ok(Cover::NodePool),
        "node" => Ok(Cover::Node),
        key => key_fits(key).map(|()| Cover::Label(key.to_owned())),
    }
}

fn qualified(text: &str) -> Result<(String, String), String> {
    let (key, value) = key_value(text)?;
    key_fits(&key)?;
    if manifest::is_reserved(&key) {
        return Err(format!("{key} is set by this tool or decides what it may do"));
    }
    Ok((key, value))
}

fn key_fits(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let subdomain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let prefix_fits =
        |prefix: &str| !prefix.is_empty() && prefix.len() <= 253 && prefix.chars().all(subdomain);
    if name.len() <= 63 && is_name(name) && prefix.is_none_or(prefix_fits) {
        Ok(())
    } else {
        Err(format!(
            "{key:?} is no key of a label, such as team or example.com/team"
        ))
    }
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(inner)
}

/// Parses the interval between polls.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_secs(1) {
        return Err("expected 1s or more".to_owned());
    }
    Ok(interval)
}

/// Parses a prerequisite and whether it is met: `drift-policy=yes`.
pub(super) fn assumption(text: &str) -> Result<(Premise, bool), String> {
    let (premise, is) = text.split_once('=').ok_or("expected =yes or =no behind it")?;
    let premise = premise.parse()?;
    match is {
        "yes" => Ok((premise, true)),
        "no" => Ok((premise, false)),
        _ => Err("expected =yes or =no behind it".to_owned()),
    }
}

/// Parses the ID of an alert.
pub(super) fn alert(text: &str) -> Result<String, String> {
    alerts::get(text).map(|alert| alert.id.clone())
}

/// Login methods for Azure, by name.
const LOGINS: [(&str, LoginKind); 4] = [
    ("workload-identity", LoginKind::WorkloadIdentity),
    ("managed-identity", LoginKind::ManagedIdentity),
    ("cli", LoginKind::AzureCli),
    ("azd", LoginKind::AzureDeveloperCli),
];

pub(super) fn login(text: &str) -> Result<LoginKind, String> {
    let found = LOGINS.iter().find(|(name, _)| *name == text);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let names = LOGINS.map(|(name, _)| name);
        format!("expected one of {}", names.join(", "))
    })
}

/// Parses a time, or how long ago it was.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = duration(text)
        .ok()
        .and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.ok_or_else(|| "expected a time such as 2026-05-04T10:00:00Z, or how long ago, such as 30m".to_owned())
}

/// Parses the namespace and the name of a `CronJob`.
pub(super) fn cron_job(text: &str) -> Result<CronJobName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(CronJobName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Err("expected NAMESPACE/NAME".to_owned()),
    }
}

/// Parses the address of a Pushgateway.
pub(super) fn gateway(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|_| "expected http://HOST:PORT".to_owned())?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.query().is_none() => Ok(uri),
        _ => Err("expected http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

pub(super) fn report_file(text: &str) -> Result<ReportFile, String> {
    let kinds =
        "expected junit=FILE, json=FILE, markdown=FILE, html=FILE, navigator=FILE or openmetrics=FILE";
    let (kind, path) = text.split_once('=').ok_or(kinds)?;
    let kind = match kind {
        "junit" => export::Kind::Junit,
        "json" => export::Kind::Json,
        "markdown" | "md" => export::Kind::Markdown,
        "html" => export::Kind::Html,
        "navigator" => export::Kind::Navigator,
        "openmetrics" => export::Kind::OpenMetrics,
        _ => return Err(kinds.to_owned()),
    };
    if path.is_empty() {
        return Err(kinds.to_owned());
    }
    let path = path.into();
    Ok(ReportFile { kind, path })
}

pub(super) fn family(text: &str) -> Result<Family, String> {
    let named = Family::ALL.into_iter().find(|family| family.as_str() == text);
    named.ok_or_else(|| format!("expected {}", Family::ALL.map(Family::as_str).join(", ")))
}

/// Parses a duration: `30s`, `10m`, `1h30m`. As in kubectl, a number alone is in seconds.
///
/// The limit is 30 days, because the duration is added to the current time, which must not overflow.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 30s, 10m or 1h30m".to_owned();
    let duration = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let duration: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        Duration::try_from(duration).map_err(|_| wrong())?
    };
    if duration > Duration::from_secs(30 * 24 * 3600) {
        return Err("expected 720h or less".to_owned());
    }
    Ok(duration)
}

/// Parses a deadline. A shorter one would end before the pods are ready; a longer one would be forgotten.
pub(super) fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = duration(text)?;
    let allowed = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);
    if allowed.contains(&deadline) {
        Ok(deadline)
    } else {
        Err("expected between 10s and 24h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("soon").is_err());
        assert!(duration("-5s").is_err());
        for endless in ["18446744073709551615", "99999999999h", "721h"] {
            assert!(duration(endless).is_err(), "{endless}");
        }
        assert!(deadline("5s").is_err());
    }

    #[test]
    fn labels_and_annotations() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(label("team=sec"), pair("team", "sec"));
        assert_eq!(label("example.com/team="), pair("example.com/team", ""));
        assert_eq!(annotation("a=b c: {d}"), pair("a", "b c: {d}"));
        assert_eq!(
            node_label("kubernetes.io/os=linux"),
            pair("kubernetes.io/os", "linux")
        );
        for wrong in [
            "team",
            "=a",
            "a b=c",
            "team=a b",
            "-a=b",
            "Prefix/a=b",
            "app.kubernetes.io/managed-by=me",
            "defender-sim/run=x",
            "pod-security.kubernetes.io/enforce=privileged",
        ] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
        assert!(label(&format!("a={}", "x".repeat(64))).is_err());
        assert!(annotation("defender-sim/record={}").is_err());
    }

    #[test]
    fn report_files() {
        let file = report_file("junit=a=b.xml").unwrap();
        assert_eq!((file.kind, file.path), (export::Kind::Junit, "a=b.xml".into()));
        assert_eq!(report_file("md=a"), report_file("markdown=a"));
        for wrong in ["junit", "junit=", "pdf=x", "x.xml"] {
            assert!(report_file(wrong).is_err(), "{wrong}");
        }
    }
}
