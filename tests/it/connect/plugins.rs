//! Credential plugins.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use defender_sim::cluster::connect::ConnectOptions;
use defender_sim::net::Cause;
use serde_json::json;
use tempfile::TempDir;

use super::{ask, connect, environment, insecure, kubeconfig, version};
use crate::apiserver::{ApiServer, failure};

fn script(directory: &Path, name: &str, content: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;

    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{content}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn plugin_runs_without_a_terminal() {
    let server = ApiServer::start_tls(&["127.0.0.1"], version).await;
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "provideClusterInfo": true,
        "interactiveMode": "IfAvailable", "env": [{"name": "WHOSE", "value": "mine"}]});
    let (directory, options) = kubeconfig(&insecure(&server), &json!({"exec": exec}));
    // The path is relative to the kubeconfig. Fails unless it gets the cluster and must not prompt.
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

#[tokio::test]
async fn failed_plugin_is_explained_without_secrets() {
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

/// Creates the entry of a user with a plugin that runs `content`, and counts its runs in the file `runs`.
fn with_plugin(server: &ApiServer, content: &str) -> (TempDir, ConnectOptions) {
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "interactiveMode": "Never"});
    let (directory, options) = kubeconfig(&insecure(server), &json!({"exec": exec}));
    let counted = format!("cd \"${{0%/*}}\"; echo run >> runs\n{content}\n");
    script(directory.path(), "plugin", &counted);
    (directory, options)
}

fn runs(directory: &TempDir) -> usize {
    let runs = std::fs::read_to_string(directory.path().join("runs"));
    runs.map_or(0, |runs| runs.lines().count())
}

const CREDENTIAL: &str =
    r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":"#;

#[tokio::test]
async fn plugin_runs_once_and_again_after_refusal() {
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

    // Revoked: rejected requests are retried with the next token.
    *valid.lock().unwrap() = "Bearer 2".to_owned();
    let asked = futures::future::join_all((0..20).map(|_| ask(&client))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_eq!(runs(&directory), 2);

    // Every token is rejected: the error is reported after one retry.
    *valid.lock().unwrap() = "none".to_owned();
    let error = ask(&client).await.unwrap_err();
    assert_eq!(error.cause, Cause::Unauthorized);
    assert_eq!(runs(&directory), 3);
}

/// Returns the script of a plugin that prints the number of its run as the token, with additional fields.
fn numbered(fields: &str) -> String {
    format!("echo '{CREDENTIAL}{{\"token\":\"'$(($(wc -l < runs)))'\"{fields}}}}}'")
}

#[tokio::test]
async fn expired_token_is_renewed_before_a_request() {
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

#[tokio::test]
async fn plugin_with_endless_output_is_killed_and_named() {
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

#[tokio::test]
async fn invalid_credentials_of_plugin_are_explained() {
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
            "not an RFC 3339 timestamp",
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
async fn offline_commands_run_no_plugin() {
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
