//! Connections by flags and kubeconfigs, including the requests on the wire.

mod answers;
#[cfg(unix)]
mod plugins;
mod proxies;

use std::time::{Duration, Instant};

use defender_sim::cluster::connect::{ConnectError, ConnectOptions, client, resolve};
use defender_sim::cluster::explain::explain;
use defender_sim::net::{Cause, Environment, Explanation};
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json as answer};

const AGENT: &str = "kubectl-defender-sim/test run/42";

fn version(_: &Recorded) -> Answer {
    answer(200, &json!({"major": "1", "minor": "33"}))
}

/// Options for a server, independent of the configuration of this machine.
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

/// Writes a kubeconfig with one context to a separate directory.
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

/// Returns a cluster entry for a server with TLS.
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
async fn requests_carry_agent_token_and_impersonation() {
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

/// Returns an address without a listener.
async fn unused_address() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn refused_connection_fails_soon() {
    let started = Instant::now();
    let server = format!("https://{}", unused_address().await);
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
async fn https_to_server_without_tls_is_detected() {
    let server = ApiServer::start(version).await;
    let url = format!("https://{}", server.address());
    let explained = ask(&connect(&to(&url), &environment(&[])).unwrap())
        .await
        .unwrap_err();
    assert_eq!(explained.cause, Cause::Unreachable);
    assert!(explained.message.contains("does not speak TLS"), "{explained:?}");
}

#[tokio::test]
async fn tls_is_verified_unless_flags_change_it() {
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
async fn token_file_is_read_again_after_refusal_and_pipe_once() {
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

#[test]
fn empty_kubectl_flag_counts_as_unset() {
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
    // This applies to kubectl's flags only.
    for refused in [&["list", "--output", ""][..], &["describe", ""]] {
        assert_eq!(run(refused).0, Some(2), "{refused:?}");
    }
}
