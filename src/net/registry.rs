//! Checks whether image registries have images, by the OCI distribution specification, without pulling them.
//!
//! Requests are anonymous: a token is requested if the registry issues them to anyone, as Docker Hub and ghcr.io do;
//! pull secrets and logins of this machine are not read. Requests are sent from this machine, while a node may reach
//! the registry in another way, or not at all.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HeaderMap, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};
use http_auth::ChallengeParser;
pub use oci_spec::distribution::Reference;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{Environment, Explanation};
use crate::net::http::{AGENT, Answer, Bytes, Transport, bearer};
use crate::untrusted;

/// Time limit of the check of one image.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Limit of the requests for one image, which include those for a token and redirects.
const MAX_REQUESTS: usize = 8;
/// The kinds of manifest that a node can pull.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// Whether a registry has an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has the image and serves it to anyone.
    Present,
    /// It does not have the image.
    Absent,
    /// It requires a login.
    Private,
    /// It did not answer; with the reason, a lower-case fragment without control characters.
    Unknown(String),
}

/// An anonymous client of image registries.
#[derive(Clone)]
pub struct Registry {
    transport: Transport,
}

impl Registry {
    /// Creates a client with the certificates of the system and the proxies of the environment.
    ///
    /// # Errors
    /// If certificates cannot be used.
    pub fn from_process() -> Result<Self, Explanation> {
        let transport = Transport::new(None, Environment::from_process())?;
        Ok(Self { transport })
    }

    /// Checks whether the registry of an image has it, within 2 s.
    pub async fn find(&self, image: &Reference) -> Presence {
        let timed_out = |_| Err(format!("it did not answer within {} s", TIMEOUT.as_secs()));
        tokio::time::timeout(TIMEOUT, self.request_manifest(image))
            .await
            .unwrap_or_else(timed_out)
            .unwrap_or_else(|reason| Presence::Unknown(untrusted::line(&reason)))
    }

    async fn request_manifest(&self, image: &Reference) -> Result<Presence, String> {
        let mut url = manifest_url(image).ok_or("its address cannot be used")?;
        let mut token: Option<SecretString> = None;
        for _ in 0..MAX_REQUESTS {
            // A token is only for the host that asked for it.
            let has_token = token.is_some();
            let answer = self.send(Method::HEAD, &url, token.take()).await?;
            match answer.status {
                status if status.is_success() => return Ok(Presence::Present),
                status if status.is_redirection() => url = redirect_url(&url, &answer.headers)?,
                StatusCode::UNAUTHORIZED if !has_token => {
                    let Some(endpoint) = token_endpoint(&answer.headers)? else {
                        return Ok(Presence::Private);
                    };
                    token = self.token(&endpoint).await?;
                    if token.is_none() {
                        return Ok(Presence::Private);
                    }
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(Presence::Private),
                StatusCode::NOT_FOUND => return Ok(Presence::Absent),
                status => return Err(format!("it answered {status}")),
            }
        }
        Err("too many redirects".to_owned())
    }

    /// Requests an anonymous token, or returns `None` if the registry does not issue any.
    async fn token(&self, endpoint: &Url) -> Result<Option<SecretString>, String> {
        #[derive(Deserialize)]
        struct Grant {
            token: Option<String>,
            access_token: Option<String>,
        }
        let answer = self.send(Method::GET, endpoint, None).await?;
        match answer.status {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
            status => return Err(format!("the token request failed: {status}")),
        }
        let grant = serde_json::from_slice::<Grant>(&answer.body).ok();
        let token = grant.and_then(|grant| grant.token.or(grant.access_token));
        Ok(Some(SecretString::from(
            token.ok_or("its token cannot be parsed")?,
        )))
    }

    async fn send(&self, method: Method, url: &Url, token: Option<SecretString>) -> Result<Answer, String> {
        let unsendable = || "its token or its address cannot be used".to_owned();
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(ACCEPT, MANIFESTS)
            .header(USER_AGENT, AGENT);
        if let Some(token) = token {
            request = request.header(
                AUTHORIZATION,
                bearer(token.expose_secret()).ok_or_else(unsendable)?,
            );
        }
        let request = request.body(Bytes::new()).map_err(|_| unsendable())?;
        let answer = self.transport.send(request, TIMEOUT).await;
        answer.map_err(|error| error.message)
    }
}

/// Returns the URL of the manifest of an image.
fn manifest_url(image: &Reference) -> Option<Url> {
    let host = image.resolve_registry();
    let version = image.digest().or(image.tag())?;
    Url::parse(&format!(
        "https://{host}/v2/{}/manifests/{version}",
        image.repository()
    ))
    .ok()
}

/// Refuses URLs without TLS.
fn encrypted(url: Url) -> Result<Url, String> {
    match url.scheme() {
        "https" => Ok(url),
        scheme => Err(format!("it refers to a URL with {scheme}, not https")),
    }
}

/// Returns the URL that a redirect leads to.
fn redirect_url(current: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let url = location.and_then(|location| current.join(location).ok());
    encrypted(url.ok_or("it redirects to an invalid URL")?)
}

/// Returns the URL that issues tokens, or `None` if the registry requires another kind of login.
fn token_endpoint(headers: &HeaderMap) -> Result<Option<Url>, String> {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    let challenge = challenges
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| ChallengeParser::new(value).map_while(Result::ok))
        .find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"));
    let Some(challenge) = challenge else {
        return Ok(None);
    };
    let value = |wanted: &str| {
        let found = challenge.params.iter();
        let mut found = found.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.to_unescaped())
    };
    let realm = value("realm").and_then(|realm| Url::parse(&realm).ok());
    let mut url = encrypted(realm.ok_or("no token endpoint in WWW-Authenticate")?)?;
    for name in ["service", "scope"] {
        if let Some(value) = value(name) {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    Ok(Some(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn manifest_url_has_the_host_of_the_registry() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, url) in [
            (
                "nginx".to_owned(),
                "https://index.docker.io/v2/library/nginx/manifests/latest".to_owned(),
            ),
            (
                "ghcr.io/a/b:1".to_owned(),
                "https://ghcr.io/v2/a/b/manifests/1".to_owned(),
            ),
            (
                format!("r.example:5000/a/b:1@{digest}"),
                format!("https://r.example:5000/v2/a/b/manifests/{digest}"),
            ),
        ] {
            assert_eq!(manifest_url(&image(&text)).unwrap().as_str(), url);
        }
    }

    #[test]
    fn token_endpoint_is_that_of_the_bearer_challenge() {
        let endpoint = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            token_endpoint(&headers).map(|url| url.map(|url| url.to_string()))
        };
        let bearer = r#"Bearer realm="https://auth.example/token?a=b",service="r.example",scope="repository:a/b:pull""#;
        let expected = "https://auth.example/token?a=b&service=r.example&scope=repository%3Aa%2Fb%3Apull";
        assert_eq!(endpoint(&[bearer]), Ok(Some(expected.to_owned())));
        assert_eq!(
            endpoint(&[r#"Basic realm="x""#, bearer]),
            Ok(Some(expected.to_owned()))
        );
        assert_eq!(endpoint(&[r#"Basic realm="x""#]), Ok(None));
        assert_eq!(endpoint(&[]), Ok(None));
        for (value, reason) in [
            (r#"Bearer realm="http://auth.example/token""#, "not https"),
            (r#"Bearer service="x""#, "no token endpoint"),
        ] {
            assert!(endpoint(&[value]).unwrap_err().contains(reason), "{value}");
        }
    }

    #[test]
    fn redirect_without_tls_is_refused() {
        let current = Url::parse("https://r.example/v2/a/manifests/1").unwrap();
        let url = |location: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            redirect_url(&current, &headers).map(|url| url.to_string())
        };
        assert_eq!(url("/x/1"), Ok("https://r.example/x/1".to_owned()));
        assert_eq!(url("https://o.example/1"), Ok("https://o.example/1".to_owned()));
        assert!(url("http://o.example/1").is_err());
        assert!(redirect_url(&current, &HeaderMap::new()).is_err());
    }
}
