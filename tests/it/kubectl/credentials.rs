//! The credentials of users and plugins.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::server::{Servers, pair, version_one};
use super::{Case, EXEC, credential};

/// The name of a case, the entry of a user, the output of its plugin, and the flags.
type User<'a> = (&'a str, String, &'a str, &'a [&'a str]);

/// Compares the two programs for each user, with and without TLS.
fn compare_users(servers: &Servers, users: &[User]) {
    for (name, user, answer, flags) in users {
        let case = Case::new(servers);
        case.write("token", "from-file\n");
        case.write("empty", "\n");
        case.plugin(answer);
        case.config(&case.https(), &format!("{{{user}}}"));
        let secure = case.compare(name, flags);
        assert!(secure.plugin_runs <= 1, "{name}: {secure:?}");

        case.config(&case.http(), &format!("{{{user}}}"));
        let plain = case.compare(&format!("{name}, plain HTTP"), flags);
        assert_eq!(plain.plugin_runs, 0, "{name}: {plain:?}");
        assert!(
            plain
                .identities
                .iter()
                .all(|identity| identity.authorization.is_empty()),
            "{name}: {plain:?}"
        );
    }
}

/// Returns the fields of a certificate with its key.
fn certificate(certificate: &str, key: &str) -> String {
    let (certificate, key) = (BASE64.encode(certificate), BASE64.encode(key));
    format!("client-certificate-data: {certificate}, client-key-data: {key}")
}

fn exec() -> String {
    format!("exec: {{{EXEC}}}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn tokens_and_passwords_are_those_that_kubectl_sends() {
    let users = [
        ("token", "token: abc"),
        ("basic", "username: u, password: p"),
        ("basic without password", "username: u"),
        ("token and basic", "token: abc, username: u, password: p"),
        (
            "token file and basic",
            "tokenFile: token, username: u, password: p",
        ),
        ("token and token file", "token: old, tokenFile: token"),
        ("token and missing token file", "token: old, tokenFile: gone"),
        ("missing token file", "tokenFile: gone"),
        ("empty token file", "tokenFile: empty"),
        ("token with a line feed", "token: \"a\\nb\""),
        ("provider that was removed", "auth-provider: {name: gcp}"),
        (
            "provider without content",
            "auth-provider: {name: azure, config: null}",
        ),
        ("impersonation", "token: abc, as: jane"),
        ("group alone", "token: abc, as-groups: [a]"),
    ];
    let users = users.map(|(name, user)| (name, user.to_owned(), "none", &[][..]));
    compare_users(&Servers::start().await, &users);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn client_certificates_are_those_that_kubectl_sends() {
    let (client, der, _) = pair("v3-user");
    let (other, ..) = pair("other");
    let v3 = certificate(&client.certificate, &client.key);
    let encoded = |text: &str| BASE64.encode(text);
    let users = [
        ("certificate", v3.clone()),
        ("version 1", certificate(&version_one(&der), &client.key)),
        ("certificate and token", format!("{v3}, token: abc")),
        ("another key", certificate(&other.certificate, &client.key)),
        (
            "certificate without key",
            format!(
                "client-certificate-data: {}, token: abc",
                encoded(&client.certificate)
            ),
        ),
        (
            "key without certificate",
            format!("client-key-data: {}, token: abc", encoded(&client.key)),
        ),
        ("certificate twice", format!("{v3}, client-certificate: token")),
        ("no certificate", certificate("not PEM", &client.key)),
    ];
    let users = users.map(|(name, user)| (name, user, "none", &[][..]));
    compare_users(&Servers::start().await, &users);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn plugin_beside_other_credentials_is_run_as_by_kubectl() {
    let (client, ..) = pair("v3-user");
    let v3 = certificate(&client.certificate, &client.key);
    let (exec, token) = (exec(), credential(r#""token":"from-plugin""#));
    let users: [User; 6] = [
        ("plugin", exec.clone(), &token, &[]),
        ("and token", format!("{exec}, token: abc"), &token, &[]),
        ("and token flag", exec.clone(), &token, &["--token", "flag"]),
        ("and basic", format!("{exec}, username: u"), &token, &[]),
        ("and certificate", format!("{exec}, {v3}"), &token, &[]),
        (
            "and provider",
            format!("{exec}, auth-provider: {{name: oidc}}"),
            &token,
            &[],
        ),
    ];
    compare_users(&Servers::start().await, &users);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn answers_of_plugins_are_read_as_by_kubectl() {
    let (client, ..) = pair("v3-user");
    let in_json = |text: &str| Value::from(text).to_string();
    let pair = format!(
        r#""clientCertificateData":{},"clientKeyData":{}"#,
        in_json(&client.certificate),
        in_json(&client.key)
    );
    let token = credential(r#""token":"from-plugin""#);
    let answers = [
        ("certificate", credential(&pair)),
        ("both", credential(&format!(r#"{pair},"token":"t""#))),
        ("half", credential(r#""clientCertificateData":"x""#)),
        (
            "empty texts",
            credential(r#""token":"t","clientCertificateData":"","clientKeyData":"""#),
        ),
        (
            "nulls",
            credential(r#""token":"t","clientCertificateData":null,"expirationTimestamp":null"#),
        ),
        ("empty token", credential(r#""token":"""#)),
        ("no status", token.replace("status", "spec")),
        ("another version", token.replace("/v1", "/v1beta1")),
        ("another kind", token.replace("ExecCredential", "Status")),
        (
            "bad time",
            credential(r#""token":"t","expirationTimestamp":"soon""#),
        ),
        ("rubbish", "rubbish".into()),
        (
            "YAML",
            "kind: ExecCredential\napiVersion: client.authentication.k8s.io/v1\nstatus: {token: t}".into(),
        ),
        (
            "expiry",
            credential(r#""token":"t","expirationTimestamp":"2099-01-01T00:00:00Z""#),
        ),
    ];
    let users: Vec<User> = answers
        .iter()
        .map(|(name, answer)| (*name, exec(), answer.as_str(), &[][..]))
        .collect();
    compare_users(&Servers::start().await, &users);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn settings_of_plugins_are_read_as_by_kubectl() {
    let with = |more: &str| format!("exec: {{{EXEC}, {more}}}");
    let exec = exec();
    let token = credential(r#""token":"from-plugin""#);
    let (arguments, outer) = (
        credential(r#""token":"$1-$2""#),
        credential(r#""token":"x$OUTER""#),
    );
    let beta = token.replace("/v1", "/v1beta1");
    let without_mode = exec.replace("interactiveMode: Never, ", "");
    let users: [User; 16] = [
        ("cluster", with("provideClusterInfo: true"), &token, &[]),
        ("arguments", with("args: [a, b]"), &arguments, &[]),
        (
            "variable",
            with("env: [{name: OUTER, value: inner}]"),
            &outer,
            &[],
        ),
        (
            "empty variable",
            with("env: [{name: OUTER, value: ''}]"),
            &outer,
            &[],
        ),
        (
            "variable without value",
            with("env: [{name: OUTER}]"),
            &outer,
            &[],
        ),
        (
            "null variable",
            with("env: [{name: OUTER, value: null}]"),
            &outer,
            &[],
        ),
        ("variable without name", with("env: [{value: x}]"), &token, &[]),
        (
            "no version",
            "exec: {interactiveMode: Never, command: ./plugin}".into(),
            &token,
            &[],
        ),
        ("old version", exec.replace("/v1", "/v1alpha1"), &token, &[]),
        ("no mode", without_mode.clone(), &token, &[]),
        (
            "no mode in beta",
            without_mode.replace("/v1", "/v1beta1"),
            &beta,
            &[],
        ),
        (
            "empty mode in beta",
            exec.replace("Never", "''").replace("/v1", "/v1beta1"),
            &beta,
            &[],
        ),
        ("bad mode", exec.replace("Never", "Sometimes"), &token, &[]),
        ("mode Always", exec.replace("Never", "Always"), &token, &[]),
        ("no command", exec.replace(", command: ./plugin", ""), &token, &[]),
        ("plugin", exec, &token, &[]),
    ];
    compare_users(&Servers::start().await, &users);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn refused_credentials_run_the_plugin_again() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    case.plugin(&credential(r#""token":"t""#));
    let cluster = case.https().replace("', cert", "/401', cert");
    case.config(&cluster, &format!("{{exec: {{{EXEC}}}}}"));
    let (theirs, _) = case.kubectl(&[]);
    assert!(!theirs.connected && theirs.plugin_runs > 1, "{theirs:?}");
    let (ours, text) = case.ours(&[]);
    assert_eq!((ours.connected, ours.plugin_runs), (false, 2), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn token_of_plugin_is_trimmed_unlike_in_kubectl() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    case.plugin(&credential(r#""token":"abc\\n""#));
    case.config(&case.https(), &format!("{{exec: {{{EXEC}}}}}"));
    assert!(!case.kubectl(&[]).0.connected);
    let (ours, text) = case.ours(&[]);
    assert!(ours.connected, "{text}");
    assert_eq!(ours.identities.first().unwrap().authorization, "Bearer abc");
}
