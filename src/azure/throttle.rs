//! Throttling by Azure: headers and waits.
//!
//! Azure Resource Manager sends `Retry-After` with 429. Resource Graph sends `x-ms-user-quota-remaining` and
//! `x-ms-user-quota-resets-after` with every answer (Microsoft's "Guidance for throttled requests in Azure Resource
//! Graph").

use std::time::Duration;

use http::header::{DATE, HeaderMap, RETRY_AFTER};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::net::{Cause, Explanation};

/// The window of Resource Graph's quota: the wait if Azure sends none.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// Waits, or fails if the wait would exceed the deadline.
pub(super) async fn pause(wait: Duration, deadline: Instant) -> std::result::Result<(), Explanation> {
    if wait > deadline.saturating_duration_since(Instant::now()) {
        let message = format!(
            "Azure is throttling requests for another {:.0} s, which exceeds the time limit",
            wait.as_secs_f64().ceil()
        );
        let mut explained = Explanation::new(Cause::Busy, message).with_hint("try again later");
        explained.retry_after = Some(wait);
        return Err(explained);
    }
    tokio::time::sleep(wait).await;
    Ok(())
}

/// Parses `Retry-After`: seconds, or a time, which is compared with the server's clock if it sends one.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let time = |text: &str| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp());
    let value = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = text(DATE).and_then(time).unwrap_or_else(Timestamp::now);
    Some(
        time(value)?
            .duration_since(now)
            .max(SignedDuration::ZERO)
            .unsigned_abs(),
    )
}

/// Parses the time until the quota of Resource Graph is reset: `hh:mm:ss`.
pub(super) fn resets_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("x-ms-user-quota-resets-after")?.to_str().ok()?;
    let parts: Vec<u64> = text
        .split(':')
        .map(|part| part.trim().parse().ok())
        .collect::<Option<_>>()?;
    let [hours @ 0..=24, minutes @ 0..=59, seconds @ 0..=59] = parts[..] else {
        return None;
    };
    Some(Duration::from_secs((hours * 60 + minutes) * 60 + seconds))
}

/// Returns the wait after an answer that used up the quota of Resource Graph.
pub(super) fn quota_wait(headers: &HeaderMap) -> Option<Duration> {
    let left = headers.get("x-ms-user-quota-remaining")?.to_str().ok()?;
    (left.trim() == "0").then(|| resets_after(headers).unwrap_or(WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn waits_are_parsed_in_every_form() {
        for (pairs, expected) in [
            (&[("retry-after", "7")][..], Some(7)),
            (
                &[
                    ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
                    ("date", "Sun, 06 Nov 1994 08:49:07 GMT"),
                ],
                Some(30),
            ),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(0)),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(
                retry_after(&headers(pairs)),
                expected.map(Duration::from_secs),
                "{pairs:?}"
            );
        }
        for (text, expected) in [
            ("00:00:05", Some(5)),
            ("01:02:03", Some(3723)),
            ("5", None),
            ("00:61:00", None),
            ("-1:00:00", None),
        ] {
            let headers = headers(&[("x-ms-user-quota-resets-after", text)]);
            assert_eq!(
                resets_after(&headers),
                expected.map(Duration::from_secs),
                "{text}"
            );
        }
        let quota = |left, resets| {
            headers(&[
                ("x-ms-user-quota-remaining", left),
                ("x-ms-user-quota-resets-after", resets),
            ])
        };
        assert_eq!(quota_wait(&quota("1", "00:00:03")), None);
        assert_eq!(quota_wait(&quota("0", "00:00:03")), Some(Duration::from_secs(3)));
        assert_eq!(quota_wait(&quota("0", "?")), Some(WINDOW));
    }
}
