//! Logins and tokens.

use defender_sim::azure::{Arm, ArmOptions, LoginKind, LoginOptions, Source};
use defender_sim::net::{Cause, Environment};
use serde_json::json;

use super::{TOKEN, expected, names, ready, refused, scope, throttled};
use crate::arm::{FakeArm, FakeCli, Fault, alerts};

#[tokio::test]
async fn refused_token_is_renewed_once() {
    let (azure, cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(4), 2));
    let source = Source::Alerts(arm.clone(), scope());
    names(&source).await.unwrap();
    azure.accept("second");
    cli.gives("second", 3600);
    assert_eq!(names(&source).await.unwrap(), expected(4));
    assert_eq!(cli.calls().len(), 2);

    azure.accept("none that anyone has");
    let error = names(&source).await.unwrap_err();
    assert_eq!(error.explained.cause, Cause::Unauthorized);
    assert_eq!(cli.calls().len(), 3, "one renewal, then an error");
    assert!(error.to_string().contains("the Azure CLI"), "{error}");
    assert!(error.explained.hint.unwrap().contains("az login"));
}

#[tokio::test]
async fn token_near_its_end_is_not_renewed_for_every_request() {
    let (azure, cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(6), 2));
    // The remaining lifetime is shorter than the safety margin: the token is still used, for half a minute.
    cli.gives(TOKEN, 60);
    for _ in 0..2 {
        names(&Source::Alerts(arm.clone(), scope())).await.unwrap();
    }
    assert_eq!(cli.calls().len(), 1);
}

#[tokio::test]
async fn logins_are_tried_in_order() {
    let azure = FakeArm::start().await;
    azure.with(|state| state.alerts = alerts(1));
    let ask = async |mut environment: Environment, only: Option<LoginKind>| {
        let authority = azure.server.url().into();
        environment
            .variables
            .insert("AZURE_AUTHORITY_HOST".into(), authority);
        let options = ArmOptions {
            login: LoginOptions {
                only,
                ..LoginOptions::default()
            },
            ..azure.options(&environment)
        };
        let arm = Arm::new(options).unwrap();
        let answer = names(&Source::Alerts(arm.clone(), scope())).await;
        answer.map(|_| arm)
    };
    let (az, azd) = (FakeCli::new("az", "by-az"), FakeCli::new("azd", "by-azd"));

    azure.accept("by-azd");
    let arm = ask(azd.environment(), None).await.unwrap();
    assert_eq!(arm.log_in().await.unwrap(), LoginKind::AzureDeveloperCli);
    azure.accept("by-az");
    let arm = ask(az.environment(), None).await.unwrap();
    assert_eq!(arm.log_in().await.unwrap(), LoginKind::AzureCli);
    let error = ask(azd.environment(), Some(LoginKind::AzureCli))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("az not found on PATH"), "{error}");
    assert!(!error.to_string().contains("Developer"), "{error}");

    // Workload identity, if its variables are set, takes precedence over a CLI and uses its own identity.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a-token-of-kubernetes").unwrap();
    let variables = [
        ("AZURE_TENANT_ID", "t-1"),
        ("AZURE_CLIENT_ID", "c-1"),
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
    ];
    let calls = az.calls().len();
    let environment: Environment = az.variables(&variables).into_iter().collect();
    let arm = ask(environment.clone(), None).await.unwrap();
    assert_eq!(arm.log_in().await.unwrap(), LoginKind::WorkloadIdentity);
    let asked = azure
        .server
        .requests()
        .into_iter()
        .find(|request| request.path == "/t-1/oauth2/v2.0/token");
    let body = String::from_utf8(asked.unwrap().body.to_vec()).unwrap();
    for part in [
        "client_id=c-1",
        "client_assertion=a-token-of-kubernetes",
        "%2F.default",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    // A rejected token is not reused.
    azure.accept("none");
    names(&Source::Alerts(arm, scope())).await.unwrap();
    assert_eq!(azure.with(|state| state.issued), 2);
    std::fs::remove_file(&file).unwrap();
    let error = ask(environment, None).await.err().unwrap();
    assert_eq!(error.explained.cause, Cause::Auth);
    assert!(error.to_string().contains("workload identity"), "{error}");
    assert_eq!(az.calls().len(), calls, "the CLI is not asked");
}

#[tokio::test]
async fn missing_login_has_a_hint() {
    let (azure, cli, _) = ready().await;
    let old = json!({"accessToken": TOKEN, "expiresOn": "2026-11-24 12:00:00", "tokenType": "Bearer"});
    for (out, complaint, code, part) in [
        (
            "",
            "ERROR: Please run 'az login' to setup account.",
            1,
            "Please run 'az login'",
        ),
        (old.to_string().as_str(), "", 0, "2.54.0 or newer"),
        ("no JSON", "", 0, "its answer cannot be parsed"),
    ] {
        cli.answers(out, complaint, code);
        let arm = Arm::new(azure.options(&cli.environment())).unwrap();
        let error = refused(&arm).await;
        assert_eq!(error.explained.cause, Cause::Auth);
        assert!(error.to_string().contains(part), "{part} in {error}");
        assert_eq!(
            error.explained.hint.as_deref(),
            Some("az login, or azd auth login")
        );
    }
    assert!(azure.server.requests().is_empty());
}

#[tokio::test]
async fn errors_do_not_show_tokens() {
    let (azure, cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(2), 1));
    let mut reported = vec![format!("{:?}", arm.log_in().await)];
    names(&Source::Alerts(arm.clone(), scope())).await.unwrap();
    for fault in [
        Fault::Status(400, vec![]),
        Fault::Status(403, vec![]),
        throttled(&[("retry-after", "999")]),
        Fault::Broken,
        Fault::NextAt(format!("https://other.example.test/{TOKEN}")),
    ] {
        azure.fault(fault);
        let error = refused(&arm).await;
        reported.push(format!("{error} {error:?}"));
    }
    azure.accept("another");
    reported.push(format!("{:?}", refused(&arm).await));
    // Any output of a CLI, in any format. A value that does not resemble a token would pass as a word.
    let word = "planted-word";
    let ends = 9_999_999_999_i64;
    for (out, complaint, code) in [
        (json!(word), "", 0),
        (json!({"accessToken": [word]}), "", 0),
        (
            json!({"accessToken": "x", "expires_on": word, "tokenType": "Bearer"}),
            "",
            0,
        ),
        (
            json!({"accessToken": format!("{word}\n"), "expires_on": ends, "tokenType": "B"}),
            "",
            0,
        ),
        (json!(word), TOKEN, 1),
    ] {
        cli.answers(&out.to_string(), complaint, code);
        let arm = Arm::new(azure.options(&cli.environment())).unwrap();
        let error = refused(&arm).await;
        reported.push(format!("{error} {error:?}"));
    }
    assert_eq!(reported.len(), 12);
    for reported in reported {
        assert!(
            !reported.contains("planted") && !reported.contains("eyJ"),
            "{reported}"
        );
    }
    // The token was sent, so it could have been leaked.
    let sent = azure.server.requests()[0].header("authorization");
    assert_eq!(sent, format!("Bearer {TOKEN}"));
}
