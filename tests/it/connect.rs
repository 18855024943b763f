//! From flags and a kubeconfig to requests on the wire.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use defender_sim::cluster::connect::{ConnectError, ConnectOptions, client, resolve};
use defender_sim::cluster::explain::explain;
use defender_sim::net::{Cause, Environment, Explanation};
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::apiserver::{Answer, ApiServer, Proxy, Recorded, failure, json as answer};

const AGENT: &str = "kubectl-defender-sim/test run/42";

fn version(_: &Recorded) -> Answer {
    answer(200, &json!({"major": "1", "minor": "33"}))
}

/// Options for a server, and nothing of this machine's own configuration.
fn to(server: &str) -> ConnectOptions {
    ConnectOptions {
        server: Some(server.to_owned()),
        ..ConnectOptions::default()
    }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let mut environment = Environment::default();
    environment
        .variables
        .extend(variables.iter().map(|(key, value)| (key.into(), value.into())));
    if let Some(path) = std::env::var_os("PATH") {
        environment.variables.insert("PATH".into(), path);
    }
    environment
}

/// A kubeconfig with one context, in a directory of its own.
fn kubeconfig(cluster: &Value, user: &Value) -> (TempDir, ConnectOptions) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
    });
    std::fs::write(&path, content.to_string()).unwrap();
    let options = ConnectOptions {
        kubeconfig: Some(path),
        ..ConnectOptions::default()
    };
    (directory, options)
}

/// A cluster entry for a server with TLS.
fn insecure(server: &ApiServer) -> Value {
    json!({"server": server.url(), "insecure-skip-tls-verify": true})
}

fn connect(options: &ConnectOptions, environment: &Environment) -> Result<kube::Client, ConnectError> {
    let (config, _) = resolve(options, environment)?;
    client(config, AGENT, |_: &str| {})
}

async fn ask(client: &kube::Client) -> Result<String, Explanation> {
    let request = Request::get("/version").body(Vec::new()).unwrap();
    client
        .request_text(request)
        .await
        .map_err(|error| explain(&error))
}

#[tokio::test]
async fn requests_carry_the_agent_the_token_and_whom_to_act_as() {
    let server = ApiServer::start_tls(&["127.0.0.1"], version).await;
    let options = ConnectOptions {
        token: Some(secrecy::SecretString::from("t0ken\n")),
        impersonate: Some("jane".to_owned()),
        impersonate_uid: Some("u-1".to_owned()),
        impersonate_groups: vec!["dev".to_owned(), "ops".to_owned()],
        impersonate_user_extra: vec![
            ("example.com/team".to_owned(), "red".to_owned()),
            ("example.com/team".to_owned(), "blue".to_owned()),
        ],
        insecure_skip_tls_verify: true,
        ..to(&server.url())
    };
    ask(&connect(&options, &environment(&[])).unwrap()).await.unwrap();

    let request = &server.requests()[0];
    assert_eq!(request.header("user-agent"), AGENT);
    assert_eq!(request.header("authorization"), "Bearer t0ken");
    assert_eq!(request.header("impersonate-user"), "jane");
    assert_eq!(request.header("impersonate-uid"), "u-1");
    assert_eq!(request.header("impersonate-group"), "dev, ops");
    assert_eq!(
        request.header("impersonate-extra-example.com%2fteam"),
        "red, blue"
    );
}

#[tokio::test]
async fn warnings_are_passed_on_once() {
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
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = told.clone();
    let (config, _) = resolve(&to(&server.url()), &environment(&[])).unwrap();
    let client = client(config, AGENT, move |text: &str| {
        sink.lock().unwrap().push(text.to_owned());
    })
    .unwrap();
    ask(&client).await.unwrap();
    ask(&client).await.unwrap();
    assert_eq!(
        *told.lock().unwrap(),
        ["would violate \"restricted\"", "deprecated"]
    );
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used_for_names_and_not_for_loopback() {
    let server = ApiServer::start(version).await;
    let proxy = Proxy::start(server.address()).await;
    let address = proxy.address().to_string();
    let proxied = environment(&[("HTTP_PROXY", &address), ("NO_PROXY", ".other.test, ,")]);

    ask(&connect(&to("http://api.example.test:6443"), &proxied).unwrap())
        .await
        .unwrap();
    assert_eq!(proxy.targets(), ["api.example.test:6443"]);

    ask(&connect(&to(&server.url()), &proxied).unwrap())
        .await
        .unwrap();
    assert_eq!(proxy.targets().len(), 1, "loopback is reached directly");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_proxy_url_of_the_kubeconfig_is_used() {
    let server = ApiServer::start(version).await;
    let proxy = Proxy::start(server.address()).await;
    let cluster = json!({"server": server.url(), "proxy-url": format!("http://{}", proxy.address())});
    let (_directory, options) = kubeconfig(&cluster, &json!({}));
    ask(&connect(&options, &environment(&[("NO_PROXY", "*")])).unwrap())
        .await
        .unwrap();
    assert_eq!(proxy.targets(), [server.address().to_string()]);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_as_the_culprit() {
    let address = nobody().await;
    let environment = environment(&[("HTTP_PROXY", &address)]);
    let explained = ask(&connect(&to("http://api.example.test:6443"), &environment).unwrap())
        .await
        .unwrap_err();
    assert_eq!(explained.cause, Cause::Unreachable);
    assert!(
        explained.message.starts_with("the proxy refuses"),
        "{explained:?}"
    );
}

/// An address at which nothing listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_refused_connection_ends_soon_and_says_so() {
    let started = Instant::now();
    let server = format!("https://{}", nobody().await);
    let explained = ask(&connect(&to(&server), &environment(&[])).unwrap())
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(explained.cause, Cause::Unreachable);
    assert!(
        explained.message.contains("refuses the connection"),
        "{explained:?}"
    );
    assert!(explained.hint.is_some());
}

#[tokio::test]
async fn an_answer_that_is_an_error_is_explained_and_a_write_is_not_repeated() {
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

#[tokio::test]
async fn https_to_a_server_without_tls_is_told_apart() {
    let server = ApiServer::start(version).await;
    let url = format!("https://{}", server.address());
    let explained = ask(&connect(&to(&url), &environment(&[])).unwrap())
        .await
        .unwrap_err();
    assert_eq!(explained.cause, Cause::Unreachable);
    assert!(explained.message.contains("does not speak TLS"), "{explained:?}");
}

#[tokio::test]
async fn tls_is_verified_and_each_way_out_works() {
    let server = ApiServer::start_tls(&["api.example.test"], version).await;
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("ca.crt");
    std::fs::write(&authority, server.certificate()).unwrap();
    let nothing = environment(&[]);

    let distrusted = ask(&connect(&to(&server.url()), &nothing).unwrap())
        .await
        .unwrap_err();
    assert!(
        distrusted
            .hint
            .as_ref()
            .unwrap()
            .contains("--certificate-authority"),
        "{distrusted:?}"
    );

    let trusting = ConnectOptions {
        certificate_authority: Some(authority),
        ..to(&server.url())
    };
    let misnamed = ask(&connect(&trusting, &nothing).unwrap()).await.unwrap_err();
    assert!(
        misnamed.hint.as_ref().unwrap().contains("--tls-server-name"),
        "{misnamed:?}"
    );

    let named = ConnectOptions {
        tls_server_name: Some("api.example.test".to_owned()),
        ..trusting
    };
    ask(&connect(&named, &nothing).unwrap()).await.unwrap();

    let careless = ConnectOptions {
        insecure_skip_tls_verify: true,
        ..to(&server.url())
    };
    ask(&connect(&careless, &nothing).unwrap()).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[cfg(unix)]
fn script(directory: &Path, name: &str, content: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;

    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{content}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(unix)]
#[tokio::test]
async fn a_credential_plugin_is_run_without_a_terminal() {
    let server = ApiServer::start_tls(&["127.0.0.1"], version).await;
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "provideClusterInfo": true,
        "interactiveMode": "IfAvailable", "env": [{"name": "WHOSE", "value": "mine"}]});
    let (directory, options) = kubeconfig(&insecure(&server), &json!({"exec": exec}));
    // Relative to the kubeconfig, and only content when it knows the cluster and may not ask.
    script(
        directory.path(),
        "plugin",
        r#"case $KUBERNETES_EXEC_INFO in *'"server":"https://127'*'"interactive":false'*) ;; *) exit 3 ;; esac
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-'$WHOSE'"}}'
"#,
    );
    ask(&connect(&options, &environment(&[])).unwrap()).await.unwrap();
    assert_eq!(server.requests()[0].header("authorization"), "Bearer from-mine");
}

#[cfg(unix)]
#[tokio::test]
async fn a_credential_plugin_that_fails_is_explained_without_its_secrets() {
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./kubelogin", "args": ["get-token"],
        "interactiveMode": "IfAvailable",
        "env": [{"name": "CLIENT_SECRET", "value": "s3cret"}]});
    let (directory, options) = kubeconfig(&json!({"server": "https://127.0.0.1:1"}), &json!({"exec": exec}));
    let content = "echo '{\"token\": \"s3cret\"}'\necho 'please run az login' >&2\nexit 7\n";
    script(directory.path(), "kubelogin", content);
    let Err(error) = connect(&options, &environment(&[])) else {
        panic!("there are no credentials");
    };
    let message = error.to_string();
    assert!(
        message.contains("kubelogin") && message.contains("please run az login"),
        "{message}"
    );
    assert!(!message.contains("s3cret"), "{message}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains("kubelogin convert-kubeconfig -l azurecli")
    );
}

/// A server that answers every request with a body that never ends.
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
fn endless_answer_is_an_error_that_names_it() {
    let server = endless_server();
    let (code, stderr) = with_little_memory(&["version", "--server", &server]);
    let message = format!("the answer of {server} to GET /version is larger than 64 MiB");
    assert!(stderr.contains(&message), "{stderr}");
    assert_eq!(code, Some(3), "{stderr}");
}

/// The entry of a user with a plugin that counts its runs in the file `runs`, and the plugin, which runs `content`.
#[cfg(unix)]
fn with_plugin(server: &ApiServer, content: &str) -> (TempDir, ConnectOptions) {
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "interactiveMode": "Never"});
    let (directory, options) = kubeconfig(&insecure(server), &json!({"exec": exec}));
    let counted = format!("cd \"${{0%/*}}\"; echo run >> runs\n{content}\n");
    script(directory.path(), "plugin", &counted);
    (directory, options)
}

#[cfg(unix)]
fn runs(directory: &TempDir) -> usize {
    let runs = std::fs::read_to_string(directory.path().join("runs"));
    runs.map_or(0, |runs| runs.lines().count())
}

#[cfg(unix)]
const CREDENTIAL: &str =
    r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":"#;

#[cfg(unix)]
#[tokio::test]
async fn a_plugin_runs_once_for_many_requests_and_again_when_its_token_is_refused() {
    let valid: Arc<Mutex<String>> = Arc::new(Mutex::new("Bearer 1".to_owned()));
    let expected = valid.clone();
    let server = ApiServer::start_tls(&["127.0.0.1"], move |request| {
        if request.header("authorization") == *expected.lock().unwrap() {
            version(request)
        } else {
            failure(401, "Unauthorized", "Unauthorized")
        }
    })
    .await;
    let (directory, options) = with_plugin(&server, &numbered(""));
    let client = connect(&options, &environment(&[])).unwrap();
    let asked = futures::future::join_all((0..20).map(|_| ask(&client))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_eq!(runs(&directory), 1);

    // Revoked: the requests that were refused are repeated with the next token.
    *valid.lock().unwrap() = "Bearer 2".to_owned();
    let asked = futures::future::join_all((0..20).map(|_| ask(&client))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_eq!(runs(&directory), 2);

    // Every token is refused: that is the answer, after one more.
    *valid.lock().unwrap() = "none".to_owned();
    let error = ask(&client).await.unwrap_err();
    assert_eq!(error.cause, Cause::Unauthorized);
    assert_eq!(runs(&directory), 3);
}

/// A plugin's script that prints the number of its run as token, with more fields.
#[cfg(unix)]
fn numbered(fields: &str) -> String {
    format!("echo '{CREDENTIAL}{{\"token\":\"'$(($(wc -l < runs)))'\"{fields}}}}}'")
}

#[cfg(unix)]
#[tokio::test]
async fn an_expired_token_is_renewed_before_a_request() {
    let server = ApiServer::start_tls(&["127.0.0.1"], version).await;
    let expired = numbered(r#","expirationTimestamp":"2020-01-01T00:00:00Z""#);
    let (_directory, options) = with_plugin(&server, &expired);
    let client = connect(&options, &environment(&[])).unwrap();
    for _ in 0..2 {
        ask(&client).await.unwrap();
    }
    let sent: Vec<String> = server
        .requests()
        .iter()
        .map(|request| request.header("authorization"))
        .collect();
    assert_eq!(sent, ["Bearer 2", "Bearer 3"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_plugin_that_prints_without_end_is_ended_and_named() {
    let server = ApiServer::start_tls(&["127.0.0.1"], version).await;
    let (_directory, options) = with_plugin(&server, "exec yes");
    let Err(error) = connect(&options, &environment(&[])) else {
        panic!("there are no credentials");
    };
    let message = error.to_string();
    assert!(
        message.starts_with("the credential plugin `")
            && message.ends_with("/plugin` printed more than 1 MiB"),
        "{message}"
    );

    let (_directory, options) = with_plugin(&server, "yes >&2 | head -c 100000000 >&2; exit 7");
    let flood =
        "for i in 1 2 3 4 5 6 7 8; do head -c 9999999 /dev/zero >&2; done; echo last words >&2; exit 7";
    let (_directory2, options2) = with_plugin(&server, flood);
    drop(options);
    let Err(error) = connect(&options2, &environment(&[])) else {
        panic!("there are no credentials");
    };
    assert!(
        error.to_string().ends_with("failed (exit status: 7): last words"),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn credentials_of_a_plugin_that_cannot_be_used_are_errors_in_words() {
    let server = ApiServer::start_tls(&["127.0.0.1"], version).await;
    for (status, part) in [
        (r#"{"token":"a\nb"}"#, "returned a token with a line feed"),
        (r#"{"token":"\u0000"}"#, "returned a token"),
        (
            r#"{"token":""}"#,
            "returned neither a token nor a client certificate",
        ),
        (r#"{"token":7}"#, "not an ExecCredential object"),
        (r#"{"clientKeyData":"x"}"#, "without its certificate"),
        (
            r#"{"clientCertificateData":"x","clientKeyData":"y"}"#,
            "holds no certificate",
        ),
        (
            r#"{"token":"t","expirationTimestamp":"soon"}"#,
            "not a time of RFC 3339",
        ),
        ("null", "returned neither"),
        ("7", "not an ExecCredential object"),
    ] {
        let (_directory, options) = with_plugin(&server, &format!("cat <<'E'\n{CREDENTIAL}{status}}}\nE"));
        let Err(error) = connect(&options, &environment(&[])) else {
            panic!("{status} gave credentials");
        };
        assert!(error.to_string().contains(part), "{status}: {error}");
        assert!(error.hint().is_some());
    }
    let trailing = format!("cat <<'E'\n{CREDENTIAL}{{\"token\":\"t\\n\"}}}}\nE");
    let (_directory, options) = with_plugin(&server, &trailing);
    ask(&connect(&options, &environment(&[])).unwrap()).await.unwrap();
    assert_eq!(
        server.requests().last().unwrap().header("authorization"),
        "Bearer t"
    );
}

#[tokio::test]
async fn no_credentials_are_sent_without_tls() {
    let server = ApiServer::start(version).await;
    for user in [
        json!({"token": "t"}),
        json!({"username": "u", "password": "p"}),
        json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin", "interactiveMode": "Never"}}),
    ] {
        let (_directory, options) = kubeconfig(&json!({"server": server.url()}), &user);
        ask(&connect(&options, &environment(&[])).unwrap()).await.unwrap();
    }
    let with_token = ConnectOptions {
        token: Some(secrecy::SecretString::from("t")),
        impersonate: Some("jane".to_owned()),
        ..to(&server.url())
    };
    ask(&connect(&with_token, &environment(&[])).unwrap())
        .await
        .unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization").is_empty())
    );
    assert_eq!(requests[3].header("impersonate-user"), "jane");
}

#[cfg(unix)]
#[tokio::test]
async fn a_token_file_is_read_again_when_its_token_is_refused_and_a_pipe_is_read_once() {
    let server = ApiServer::start_tls(&["127.0.0.1"], |request| {
        match request.header("authorization").as_str() {
            "Bearer stale" | "Bearer old" => failure(401, "Unauthorized", "Unauthorized"),
            _ => version(request),
        }
    })
    .await;
    let user = json!({"token": "old", "tokenFile": "token"});
    let (directory, options) = kubeconfig(&insecure(&server), &user);
    let token = directory.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let client = connect(&options, &environment(&[])).unwrap();
    ask(&client).await.unwrap();
    assert_eq!(server.requests()[0].header("authorization"), "Bearer first");
    std::fs::write(&token, "stale\n").unwrap();
    let stale = connect(&options, &environment(&[])).unwrap();
    std::fs::write(&token, "next\n").unwrap();
    ask(&stale).await.unwrap();
    assert_eq!(
        server.requests().last().unwrap().header("authorization"),
        "Bearer next"
    );

    std::fs::remove_file(&token).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&token).status().unwrap();
    assert!(made.success());
    let writer = std::thread::spawn({
        let token = token.clone();
        move || std::fs::write(token, "stale").unwrap()
    });
    let client = connect(&options, &environment(&[])).unwrap();
    writer.join().unwrap();
    let error = ask(&client).await.unwrap_err();
    assert_eq!(error.cause, Cause::Unauthorized, "and it does not hang");
}

#[tokio::test]
async fn an_answer_that_is_not_one_of_kubernetes_is_explained_with_its_status() {
    const PAGE: &str = "<!DOCTYPE html><html><body>Please sign in</body></html>";
    for (code, header, body, cause, part, hint) in [
        (
            401,
            ("content-type", "application/json"),
            r#"{"error":"token expired"}"#,
            Cause::Unauthorized,
            "token expired",
            "log in",
        ),
        (
            401,
            ("content-type", "application/json"),
            r#"{"type":"error","status":"401","message":"must authenticate"}"#,
            Cause::Unauthorized,
            "must authenticate",
            "log in",
        ),
        (
            401,
            ("content-type", "application/json"),
            r#"{"kind":"Status","message":"no code"}"#,
            Cause::Unauthorized,
            "no code",
            "log in",
        ),
        (
            401,
            ("content-type", "application/json"),
            "[]",
            Cause::Unauthorized,
            "[]",
            "log in",
        ),
        (
            401,
            ("content-type", "text/plain"),
            "",
            Cause::Unauthorized,
            "401 Unauthorized",
            "log in",
        ),
        (
            401,
            ("content-type", "text/html"),
            PAGE,
            Cause::Unauthorized,
            "web page (HTTP 401)",
            "log in",
        ),
        (
            403,
            ("content-type", "text/html"),
            PAGE,
            Cause::Forbidden,
            "web page (HTTP 403)",
            "HTTPS_PROXY",
        ),
        (
            502,
            ("content-type", "text/html"),
            PAGE,
            Cause::Other,
            "web page (HTTP 502)",
            "HTTPS_PROXY",
        ),
        (
            503,
            ("content-type", "application/json"),
            r#"{"a":1}"#,
            Cause::Busy,
            r#"{"a":1}"#,
            "",
        ),
        (
            200,
            ("content-type", "text/html; charset=utf-8"),
            PAGE,
            Cause::Other,
            "is a web page (HTTP 200)",
            "log in",
        ),
        (
            302,
            ("location", "https://sso.example.test/login?secret=x"),
            "",
            Cause::Other,
            "is a redirect (HTTP 302) to \"https://sso.example.test/login\"",
            "log in",
        ),
        (
            307,
            ("x", "y"),
            "",
            Cause::Other,
            "is a redirect (HTTP 307)",
            "log in",
        ),
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

#[cfg(unix)]
#[tokio::test]
async fn no_plugin_runs_where_no_cluster_is_used() {
    let server = ApiServer::start_tls(&["127.0.0.1"], version).await;
    let (directory, _) = with_plugin(&server, "exit 1");
    let folder = directory.path();
    let mut record = serde_json::to_value(crate::results::mixed()).unwrap();
    record["cluster"]["server"] = server.url().into();
    std::fs::write(folder.join("record.json"), record.to_string()).unwrap();
    std::fs::write(folder.join("alerts.json"), r#"{"value": []}"#).unwrap();
    for arguments in [
        &[
            "verify",
            "--record",
            "record.json",
            "--alerts",
            "alerts.json",
            "--wait",
            "0s",
        ][..],
        &["webshell", "--dry-run"],
        &["list"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
            .args(arguments)
            .args(["--kubeconfig", "config"])
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert_eq!(runs(&directory), 0, "{arguments:?}: {output:?}");
        assert_ne!(output.status.code(), Some(2), "{output:?}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn kubectl_flag_with_an_empty_value_counts_as_not_given() {
    let (directory, _) = kubeconfig(&json!({"server": "https://127.0.0.1:1"}), &json!({}));
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
            .args(arguments)
            .current_dir(directory.path())
            .env("HOME", directory.path())
            .env_remove("KUBECONFIG")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), stdout)
    };
    let plan = ["webshell", "--dry-run", "--kubeconfig", "config"];
    let expected = run(&plan);
    assert_eq!(expected.0, Some(0), "{expected:?}");
    for flags in [
        &["-n", ""][..],
        &["-n="],
        &["--namespace="],
        &["--context", "", "--cluster=", "--user", "", "--server", ""],
        &[
            "--certificate-authority",
            "",
            "--client-key=",
            "--request-timeout",
            "",
        ],
        &["--kubeconfig", ""],
    ] {
        let (code, stdout) = run(&[&plan[..], flags].concat());
        assert_eq!(code, Some(0), "{flags:?}");
        let first = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(first(&stdout), first(&expected.1), "{flags:?}");
    }
    // Only kubectl's.
    for refused in [&["list", "--output", ""][..], &["describe", ""]] {
        assert_eq!(run(refused).0, Some(2), "{refused:?}");
    }
}
