//! Times as Azure and the tools around it write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Parses a time: RFC 3339, RFC 1123, `/Date(ms)/` of Windows PowerShell; a
/// time without a zone only if its property `is_utc`. A numeric date has to be in the portal's American English format, `5/4/2026, 10:00:30.123 AM`: elsewhere the day comes first.
pub(super) fn parse_time(text: &str, is_utc: bool) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    if let Some(inner) = text
        .strip_prefix("/Date(")
        .and_then(|text| text.strip_suffix(")/"))
    {
        // An offset behind it is that of the machine; the number counts in UTC.
        let digits = inner.find(['+', '-']).filter(|at| *at > 0).unwrap_or(inner.len());
        return Timestamp::from_millisecond(inner[..digits].parse().ok()?).ok();
    }
    if let Ok(time) = jiff::fmt::rfc2822::parse(text) {
        return Some(time.timestamp());
    }
    if !is_utc {
        return None;
    }
    let american = |text: &str| {
        let is_short = !text.starts_with('0') && (text.ends_with("AM") || text.ends_with("PM"));
        is_short.then(|| DateTime::strptime("%m/%d/%Y, %I:%M:%S%.f %p", text).ok())?
    };
    let civil = text.parse::<DateTime>().ok().filter(|_| text.contains(':'));
    let civil = civil.or_else(|| american(text))?;
    civil.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::parse;
    use super::*;
    use serde_json::json;

    #[test]
    fn only_formats_of_azure_and_powershell_are_parsed() {
        let expected: Timestamp = "2026-05-04T10:00:30Z".parse().unwrap();
        for (property, text) in [
            ("StartTime", "2026-05-04T10:00:30Z"),
            ("StartTime", "2026-05-04T10:00:30.0000000Z"),
            ("StartTime", "2026-05-04T12:00:30+02:00"),
            ("StartTime", "/Date(1777888830000)/"),
            ("StartTime", "/Date(1777888830000+0200)/"),
            ("StartTime", "Mon, 04 May 2026 10:00:30 GMT"),
            ("startTimeUtc", "2026-05-04T10:00:30"),
            ("startTimeUtc", "2026-05-04 10:00:30.000"),
            ("StartTime [UTC]", "5/4/2026, 10:00:30.000 AM"),
            ("StartTime [UTC]", "5/4/2026, 10:00:30 AM"),
        ] {
            let alert = parse(&json!({"alertType": "x", property: text}));
            assert_eq!(alert.start, Some(expected), "{property} {text}");
            assert!(alert.unreadable_times.is_empty(), "{property} {text}");
        }
        for (property, text) in [
            ("StartTime", "2026-05-04T10:00:30"),
            ("StartTime", "5/4/2026, 10:00:30.000 AM"),
            ("StartTime [UTC]", "04/05/2026, 10:00:30.000"),
            ("StartTime [UTC]", "4/5/2026, 10:00:30 am"),
            ("startTimeUtc", "2026-05-04"),
            ("startTimeUtc", "05/04/2026 10:00:30"),
            ("startTimeUtc", "/Date(soon)/"),
            ("startTimeUtc", "@{DateTime=Monday}"),
            ("startTimeUtc", "1777888830000"),
        ] {
            let alert = parse(&json!({"alertType": "x", property: text}));
            assert_eq!(alert.start, None, "{property} {text}");
            assert_eq!(alert.unreadable_times, [format!("{property} {text:?}")]);
        }
        // A time as an object, as PowerShell writes one of its own.
        let object = json!({"alertType": "x", "startTimeUtc": {"value": "/Date(1)/"}});
        assert_eq!(parse(&object).unreadable_times, ["startTimeUtc"]);
    }
}
