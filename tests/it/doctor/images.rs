//! Images in a fake registry.

use std::sync::{Arc, OnceLock};

use http::Response;
use http_body_util::Full;
use serde_json::json as value;

use super::{TOKEN, command, doctor, fake_cluster, run};
use crate::apiserver::{ApiServer, json};

/// Starts a registry whose responses depend on the first part of the repository name.
async fn registry() -> ApiServer {
    let own = Arc::new(OnceLock::new());
    let here = own.clone();
    let registry = ApiServer::start_tls(&["localhost"], move |request| {
        let port = here.get().unwrap();
        let answer = |code: u16, name: &'static str, value: String| {
            let response = Response::builder().status(code).header(name, value);
            response.body(Full::default()).unwrap()
        };
        let token = |of: &str| {
            let realm = format!("https://localhost:{port}/token/{of}");
            let scope = format!("repository:{of}/a:pull");
            let challenge = format!(r#"Bearer realm="{realm}",service="fake",scope="{scope}""#);
            answer(401, "www-authenticate", challenge)
        };
        let has_token = request.header("authorization") == format!("Bearer {TOKEN}");
        match request.path.split('/').nth(2).unwrap_or_default() {
            "open" => answer(200, "content-length", "7".into()),
            "public" if has_token => answer(200, "content-length", "7".into()),
            of @ ("public" | "denied" | "refused" | "broken") => token(of),
            "moved" if has_token => answer(307, "location", "/v2/open/a/manifests/1".into()),
            "moved" => token("moved"),
            "round" => answer(307, "location", request.path.clone()),
            "plain" => answer(301, "location", "http://localhost/".into()),
            "basic" => answer(401, "www-authenticate", r#"Basic realm="x""#.into()),
            "busy" => answer(429, "retry-after", "60".into()),
            "public?service=fake&scope=repository%3Apublic%2Fa%3Apull"
            | "denied?service=fake&scope=repository%3Adenied%2Fa%3Apull" => {
                json(200, &value!({ "token": TOKEN }))
            }
            "moved?service=fake&scope=repository%3Amoved%2Fa%3Apull" => {
                json(200, &value!({ "access_token": TOKEN }))
            }
            "broken?service=fake&scope=repository%3Abroken%2Fa%3Apull" => json(200, &value!({})),
            token if token.contains('?') => json(403, &value!({})),
            _ => json(404, &value!({})),
        }
    })
    .await;
    own.set(registry.address().port()).unwrap();
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_looked_up_in_their_registry() {
    let (cluster, registry) = (fake_cluster(|_| None).await, registry().await);
    let port = registry.address().port();
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), registry.certificate()).unwrap();
    let attacker = format!("--attacker-image=localhost:{port}/open/a:1");
    let ask = |repository: &str| {
        let mut command = command(&cluster);
        command.env("SSL_CERT_FILE", authority.path()).args([
            &attacker,
            &format!("--victim-image=localhost:{port}/{repository}:1"),
        ]);
        let result = run(&mut command);
        assert!(!result.0.to_string().contains(TOKEN));
        result
    };
    for (repository, status, part) in [
        ("open/a", "ok", "the registry has it, on no node yet"),
        ("public/a", "ok", "has it"),
        ("moved/a", "ok", "has it"),
        ("absent/a", "failed", "has no such image"),
        ("basic/a", "unknown", "the registry asks for a login"),
        ("denied/a", "unknown", "the registry asks for a login"),
        ("refused/a", "unknown", "the registry asks for a login"),
        ("broken/a", "unknown", "its token cannot be parsed"),
        ("busy/a", "unknown", "it answered 429"),
        ("round/a", "unknown", "too many redirects"),
        ("plain/a", "unknown", "not https"),
    ] {
        ask(repository).assert("images", status, part);
    }
    let asked = registry.requests();
    assert!(
        asked
            .iter()
            .all(|request| request.path.starts_with("/token") || request.method == "HEAD")
    );
    // A token is not sent to another repository.
    let open = asked
        .iter()
        .filter(|request| request.path.starts_with("/v2/open"));
    assert!(
        open.clone().count() > 2
            && open
                .clone()
                .all(|request| request.header("authorization").is_empty())
    );

    // A registry with an unknown certificate, one that does not exist, and one that does not answer.
    let unknown = doctor(&cluster, &[&attacker]);
    unknown.assert(
        "images",
        "unknown",
        "the certificate of localhost is not accepted",
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!(
        "--victim-image=localhost:{}/a:1",
        listener.local_addr().unwrap().port()
    );
    let result = doctor(&cluster, &["--attacker-image=localhost:9/a:1", &silent]);
    result.assert("images", "unknown", "no answer from localhost");
    result.assert("images", "unknown", "did not answer within 2 s");

    // Images that are never pulled are not looked up.
    let before = registry.requests().len();
    doctor(&cluster, &[&attacker, "--image-pull-policy=Never"]).assert("images", "warning", "no node lists");
    assert_eq!(registry.requests().len(), before);
}
