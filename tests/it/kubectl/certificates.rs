//! Certificates of authorities and servers.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

use super::Case;
use super::server::{Servers, pair};

/// Formats `text` as a YAML block scalar, with each line indented below the `|`.
fn block(text: &str) -> String {
    text.lines().fold("|".to_owned(), |mut out, line| {
        write!(out, "\n        {line}").unwrap();
        out
    })
}

fn wrapped(text: &str) -> String {
    let encoded = BASE64.encode(text);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    lines.join("\n")
}

/// Compares the two programs for a cluster entry, with and without flags that override it.
fn compare(servers: &Servers, user: &str, name: &str, cluster: &str) {
    let case = Case::new(servers);
    case.write("ca", &servers.authority);
    case.config(cluster, user);
    case.compare(name, &[]);
    if name == "not base64" {
        // kubectl reads the value even if a flag overrides it.
        return;
    }
    case.compare(&format!("{name}, insecure flag"), &["--insecure-skip-tls-verify"]);
    case.compare(
        &format!("{name}, authority flag"),
        &["--certificate-authority", "ca"],
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn authorities_are_read_as_by_kubectl() {
    let servers = Servers::start().await;
    let (client, ..) = pair("user");
    let authority = &servers.authority;
    let server = format!("server: 'https://{}'", servers.https);
    let broken = "-----BEGIN CERTIFICATE-----\nrubbish!\n-----END CERTIFICATE-----\n";
    let strange = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let [certificate, key] = [&client.certificate, &client.key].map(|text| block(&wrapped(text)));
    let user = format!("\n    client-certificate-data: {certificate}\n    client-key-data: {key}");
    let data = |text: &str| {
        format!(
            "{{{server}, certificate-authority-data: {}}}",
            BASE64.encode(text)
        )
    };
    let folded = |text: &str| {
        format!(
            "\n    {server}\n    certificate-authority-data: {}",
            block(&wrapped(text))
        )
    };
    for (name, cluster) in [
        ("wrapped", folded(authority)),
        ("good", data(authority)),
        ("broken first", data(&format!("{broken}{authority}"))),
        ("broken last", data(&format!("{authority}{broken}"))),
        ("strange first", data(&format!("{strange}{authority}"))),
        (
            "torn first",
            data(&format!("-----BEGIN CERTIFICATE-----\nAAAA\n{authority}")),
        ),
        ("text around", data(&format!("Issuer: x\n{authority}\nend"))),
        ("key beside it", data(&format!("{}{authority}", client.key))),
        ("broken alone", data(broken)),
        ("strange alone", data(strange)),
        ("not PEM", data("rubbish")),
        (
            "not base64",
            format!("{{{server}, certificate-authority-data: '!'}}"),
        ),
        (
            "insecure",
            format!("{{{server}, insecure-skip-tls-verify: true}}"),
        ),
        (
            "insecure and data",
            data(authority).replace('}', ", insecure-skip-tls-verify: true}"),
        ),
        (
            "insecure and file",
            format!("{{{server}, insecure-skip-tls-verify: true, certificate-authority: ca}}"),
        ),
        ("file", format!("{{{server}, certificate-authority: ca}}")),
        (
            "file and data",
            data(authority).replace('}', ", certificate-authority: ca}"),
        ),
        (
            "missing file",
            format!("{{{server}, certificate-authority: gone}}"),
        ),
        (
            "empty values",
            data(authority).replace(
                '}',
                ", certificate-authority: '', proxy-url: '', tls-server-name: ''}",
            ),
        ),
    ] {
        compare(&servers, &user, name, &cluster);
    }
}

/// An OpenSSL server with its own certificate.
struct OddServer {
    process: std::process::Child,
    url: String,
    folder: TempDir,
}

impl OddServer {
    /// Starts a server; `curves` are those of the authority and the server.
    fn start(curves: [&str; 2], digest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let made = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(made.status.success(), "{arguments}: {made:?}");
        };
        let [authority, server] = curves;
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:{authority} -nodes -keyout ca.key -out ca.crt -days 9 -subj /CN=ca"
        ));
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:{server} -nodes -keyout key -out crt -days 9 -subj /CN=s \
             -CA ca.crt -CAkey ca.key {digest} -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE"
        ));
        let mut process = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-cert",
                "crt",
                "-key",
                "key",
                "-www",
            ])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
        let line = lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("ACCEPT "));
        let url = format!("https://{}", line.unwrap().trim_start_matches("ACCEPT "));
        Self { process, url, folder }
    }
}

impl Drop for OddServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs openssl: make range"]
fn unsupported_algorithm_is_named() {
    for (curves, digest, part) in [
        (
            ["P-256", "P-256"],
            "-sha512",
            "signed with ECDSA with SHA-512, which is not supported",
        ),
        (
            ["P-521", "P-256"],
            "-sha256",
            "by a key for the curve P-521, which is not supported",
        ),
        (
            ["P-256", "P-521"],
            "-sha256",
            "a server certificate with a P-521 key",
        ),
        (["P-384", "P-256"], "-sha256", "is a web page (HTTP 200)"),
    ] {
        let server = OddServer::start(curves, digest);
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
            .args([
                "version",
                "--server",
                &server.url,
                "--certificate-authority",
                "ca.crt",
            ])
            .current_dir(server.folder.path())
            .env("HOME", server.folder.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(part), "{curves:?} {digest}: {stderr}");
        assert_eq!(output.status.code(), Some(3));
    }
}
