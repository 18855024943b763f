//! A Pushgateway of Prometheus.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use http::{Request, Uri};

use super::http::{Bytes, Transport};
use super::{Cause, Environment, Explanation};
use crate::untrusted;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Replaces the metrics of a cluster.
///
/// # Errors
/// If the Pushgateway cannot be reached or refuses them.
pub async fn push(gateway: &Uri, cluster: &str, metrics: String) -> Result<(), Explanation> {
    let base = gateway.to_string();
    let path = format!(
        "{}/metrics/job/defender-sim/cluster@base64/{}",
        base.trim_end_matches('/'),
        BASE64_URL_SAFE.encode(cluster)
    );
    let request = Request::put(path)
        .header("Content-Type", "text/plain; version=0.0.4")
        .body(Bytes::from(metrics))
        .map_err(|error| Explanation::new(Cause::Setting, error.to_string()))?;
    let environment = Environment::from_process();
    let transport = match gateway.scheme_str() {
        Some("http") => Transport::plain(environment),
        _ => Transport::new(None, environment)?,
    };
    let answer = transport.send(request, TIMEOUT).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body);
    let message = format!("it answered {}: {}", answer.status, untrusted::line(text.trim()));
    Err(Explanation::new(Cause::Other, message))
}
