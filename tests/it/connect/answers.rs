//! Error responses, and responses that are not from an API server.

use std::sync::{Arc, Mutex};

use defender_sim::cluster::connect::{client, resolve};
use defender_sim::cluster::explain::explain;
use defender_sim::net::Cause;
use http::Request;

use super::{AGENT, ask, connect, environment, to, version};
use crate::apiserver::{ApiServer, failure};

#[tokio::test]
async fn error_is_explained_and_write_is_not_retried() {
    let server = ApiServer::start(|_| failure(503, "ServiceUnavailable", "etcd is away")).await;
    let client = connect(&to(&server.url()), &environment(&[])).unwrap();
    let request = Request::post("/api/v1/namespaces?dryRun=All")
        .body(b"{}".to_vec())
        .unwrap();
    let explained = explain(&client.request_text(request).await.unwrap_err());
    assert_eq!(explained.cause, Cause::Busy);
    assert!(explained.message.contains("etcd is away"), "{explained:?}");

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, http::Method::POST);
    assert_eq!(requests[0].path, "/api/v1/namespaces?dryRun=All");
    assert_eq!(requests[0].body, "{}");
}

/// Starts a server that answers every request with an endless body.
#[cfg(unix)]
fn endless_server() -> String {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let mut sent = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"gitVersion\":\"");
            let chunk = vec![b'x'; 65536];
            while sent.is_ok() {
                sent = stream.write_all(&chunk);
            }
        }
    });
    format!("http://{address}")
}

/// Runs the program with at most 400 MB of memory.
#[cfg(unix)]
fn with_little_memory(arguments: &[&str]) -> (Option<i32>, String) {
    let home = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 400000; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}

#[cfg(unix)]
#[test]
fn endless_answer_is_an_error() {
    let server = endless_server();
    let (code, stderr) = with_little_memory(&["version", "--server", &server]);
    let message = format!("the answer of {server} to GET /version is larger than 64 MiB");
    assert!(stderr.contains(&message), "{stderr}");
    assert_eq!(code, Some(3), "{stderr}");
}

#[tokio::test]
async fn foreign_answer_is_explained_with_its_status() {
    use Cause::{Busy, Forbidden, Other, Unauthorized};
    const PAGE: &str = "<!DOCTYPE html><html><body>Please sign in</body></html>";
    const JSON: (&str, &str) = ("content-type", "application/json");
    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
    const TEXT: (&str, &str) = ("content-type", "text/plain");
    let to_login = ("location", "https://sso.example.test/login?secret=x");
    let redirected = "is a redirect (HTTP 302) to \"https://sso.example.test/login\"";
    let expired = r#"{"error":"token expired"}"#;
    let envoy = r#"{"type":"error","status":"401","message":"must authenticate"}"#;
    let no_code = r#"{"kind":"Status","message":"no code"}"#;
    for (code, header, body, cause, part, hint) in [
        (401, JSON, expired, Unauthorized, "token expired", "log in"),
        (401, JSON, envoy, Unauthorized, "must authenticate", "log in"),
        (401, JSON, no_code, Unauthorized, "no code", "log in"),
        (401, JSON, "[]", Unauthorized, "[]", "log in"),
        (401, TEXT, "", Unauthorized, "401 Unauthorized", "log in"),
        (401, HTML, PAGE, Unauthorized, "web page (HTTP 401)", "log in"),
        (403, HTML, PAGE, Forbidden, "web page (HTTP 403)", "HTTPS_PROXY"),
        (502, HTML, PAGE, Other, "web page (HTTP 502)", "HTTPS_PROXY"),
        (503, JSON, r#"{"a":1}"#, Busy, r#"{"a":1}"#, ""),
        (200, HTML, PAGE, Other, "is a web page (HTTP 200)", "log in"),
        (302, to_login, "", Other, redirected, "log in"),
        (307, ("x", "y"), "", Other, "is a redirect (HTTP 307)", "log in"),
    ] {
        let server = ApiServer::start(move |_| {
            let response = http::Response::builder().status(code).header(header.0, header.1);
            response.body(http_body_util::Full::from(body)).unwrap()
        })
        .await;
        let explained = ask(&connect(&to(&server.url()), &environment(&[])).unwrap())
            .await
            .unwrap_err();
        assert_eq!(explained.cause, cause, "{explained:?}");
        assert!(explained.message.contains(part), "{explained:?}");
        assert!(
            explained.hint.unwrap_or_default().contains(hint),
            "{}",
            explained.message
        );
    }
}

#[tokio::test]
async fn repeated_warning_is_passed_once() {
    let server = ApiServer::start(|request| {
        let mut response = version(request);
        for value in [
            r#"299 - "would violate \"restricted\"""#,
            r#"299 - "deprecated", 299 - "deprecated""#,
        ] {
            response.headers_mut().append("warning", value.parse().unwrap());
        }
        response
    })
    .await;
    let reported: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = reported.clone();
    let (config, _) = resolve(&to(&server.url()), &environment(&[])).unwrap();
    let client = client(config, AGENT, move |text: &str| {
        sink.lock().unwrap().push(text.to_owned());
    })
    .unwrap();
    ask(&client).await.unwrap();
    ask(&client).await.unwrap();
    assert_eq!(
        *reported.lock().unwrap(),
        ["would violate \"restricted\"", "deprecated"]
    );
}
