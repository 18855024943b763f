//! The only place that talks to image registries: it asks one whether it has an image, as the distribution
//! specification of the Open Container Initiative says, and pulls nothing.
//!
//! It asks as nobody. A registry that gives tokens to anybody is asked for one, as Docker Hub and ghcr.io
//! want it; pull secrets and logins of this machine are not read. And it asks from here: a node may have
//! another way to the registry, or none.

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

/// Bound of asking for one image.
const BOUND: Duration = Duration::from_secs(2);
/// More requests for one image than any registry needs: a token, and from place to place.
const REQUESTS: usize = 8;
/// Every kind of manifest that a node can pull by.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// What came of asking a registry for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has it, for everybody.
    Present,
    /// It says that it has none of that name.
    Absent,
    /// It tells only those that log in.
    Private,
    /// It did not say. Why, for people: lower-case, free of control characters.
    Unknown(String),
}

/// Asks registries.
#[derive(Clone)]
pub struct Registry {
    transport: Transport,
}

impl Registry {
    /// With the certificates that the system trusts, and the proxies of the environment.
    ///
    /// # Errors
    ///
    /// Certificates that cannot be used.
    pub fn from_process() -> Result<Self, Explanation> {
        let transport = Transport::new(None, Environment::from_process())?;
        Ok(Self { transport })
    }

    /// Asks the image's registry whether it has it. Takes 2 s at most.
    pub async fn look(&self, image: &Reference) -> Presence {
        let asked = tokio::time::timeout(BOUND, self.ask(image)).await;
        let late = |_| Err(format!("it did not answer within {} s", BOUND.as_secs()));
        asked
            .unwrap_or_else(late)
            .unwrap_or_else(|reason| Presence::Unknown(untrusted::line(&reason)))
    }

    async fn ask(&self, image: &Reference) -> Result<Presence, String> {
        let mut place = manifest(image).ok_or("its address cannot be used")?;
        let mut token: Option<SecretString> = None;
        for _ in 0..REQUESTS {
            // A token is for the place that asked for it, and no other.
            let with_token = token.is_some();
            let answer = self.send(Method::HEAD, &place, token.take()).await?;
            match answer.status {
                status if status.is_success() => return Ok(Presence::Present),
                status if status.is_redirection() => place = elsewhere(&place, &answer.headers)?,
                StatusCode::UNAUTHORIZED if !with_token => {
                    let Some(from) = token_place(&answer.headers)? else {
                        return Ok(Presence::Private);
                    };
                    token = self.token(&from).await?;
                    if token.is_none() {
                        return Ok(Presence::Private);
                    }
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(Presence::Private),
                StatusCode::NOT_FOUND => return Ok(Presence::Absent),
                status => return Err(format!("it answers {status}")),
            }
        }
        Err("it sends from place to place".to_owned())
    }

    /// A token for nobody in particular; nothing where nobody in particular gets one.
    async fn token(&self, from: &Url) -> Result<Option<SecretString>, String> {
        #[derive(Deserialize)]
        struct Given {
            token: Option<String>,
            access_token: Option<String>,
        }
        let answer = self.send(Method::GET, from, None).await?;
        match answer.status {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(None),
            status => return Err(format!("it gives no token: {status}")),
        }
        let given = serde_json::from_slice::<Given>(&answer.body).ok();
        let token = given.and_then(|given| given.token.or(given.access_token));
        Ok(Some(SecretString::from(token.ok_or("its token cannot be read")?)))
    }

    async fn send(&self, method: Method, to: &Url, token: Option<SecretString>) -> Result<Answer, String> {
        let unsendable = || "its token or its address cannot be used".to_owned();
        let mut request = Request::builder()
            .method(method)
            .uri(to.as_str())
            .header(ACCEPT, MANIFESTS)
            .header(USER_AGENT, AGENT);
        if let Some(token) = token {
            request = request.header(
                AUTHORIZATION,
                bearer(token.expose_secret()).ok_or_else(unsendable)?,
            );
        }
        let request = request.body(Bytes::new()).map_err(|_| unsendable())?;
        let answer = self.transport.send(request, BOUND).await;
        answer.map_err(|error| error.message)
    }
}

/// Where the registry of an image has its manifest.
fn manifest(image: &Reference) -> Option<Url> {
    let host = image.resolve_registry();
    let version = image.digest().or(image.tag())?;
    Url::parse(&format!(
        "https://{host}/v2/{}/manifests/{version}",
        image.repository()
    ))
    .ok()
}

/// Only what is encrypted is asked.
fn encrypted(place: Url) -> Result<Url, String> {
    match place.scheme() {
        "https" => Ok(place),
        scheme => Err(format!("it sends to an address with {scheme}, not https")),
    }
}

/// Where a redirection leads.
fn elsewhere(here: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let place = location.and_then(|location| here.join(location).ok());
    encrypted(place.ok_or("it sends to an address that cannot be read")?)
}

/// Where a token is to be had, with what for; nothing where the registry wants another kind of login.
fn token_place(headers: &HeaderMap) -> Result<Option<Url>, String> {
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
    let mut place = encrypted(realm.ok_or("it does not say where tokens are")?)?;
    for name in ["service", "scope"] {
        if let Some(value) = value(name) {
            place.query_pairs_mut().append_pair(name, &value);
        }
    }
    Ok(Some(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn a_manifest_is_asked_for_at_its_registry() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, place) in [
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
            assert_eq!(manifest(&image(&text)).unwrap().as_str(), place);
        }
    }

    #[test]
    fn a_challenge_says_where_a_token_is() {
        let place = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            token_place(&headers).map(|place| place.map(|place| place.to_string()))
        };
        let bearer = r#"Bearer realm="https://auth.example/token?a=b",service="r.example",scope="repository:a/b:pull""#;
        let there = "https://auth.example/token?a=b&service=r.example&scope=repository%3Aa%2Fb%3Apull";
        assert_eq!(place(&[bearer]), Ok(Some(there.to_owned())));
        assert_eq!(place(&[r#"Basic realm="x""#, bearer]), Ok(Some(there.to_owned())));
        assert_eq!(place(&[r#"Basic realm="x""#]), Ok(None));
        assert_eq!(place(&[]), Ok(None));
        for (value, reason) in [
            (r#"Bearer realm="http://auth.example/token""#, "not https"),
            (r#"Bearer service="x""#, "where tokens are"),
        ] {
            assert!(place(&[value]).unwrap_err().contains(reason), "{value}");
        }
    }

    #[test]
    fn a_redirection_stays_encrypted() {
        let here = Url::parse("https://r.example/v2/a/manifests/1").unwrap();
        let place = |location: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            elsewhere(&here, &headers).map(|place| place.to_string())
        };
        assert_eq!(place("/x/1"), Ok("https://r.example/x/1".to_owned()));
        assert_eq!(place("https://o.example/1"), Ok("https://o.example/1".to_owned()));
        assert!(place("http://o.example/1").is_err());
        assert!(elsewhere(&here, &HeaderMap::new()).is_err());
    }
}
