//! Azure as it answers, and as it fails, against a stand-in for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use defender_sim::azure::{
    Answer, Arm, ArmOptions, AzureCluster, AzureError, AzureOptions, Call, Cause, ClusterFacts, ClusterHints,
    ClusterKind, Environment, LoginKind, LoginOptions, Right, Saved, Scope, Source, SuppressionRule,
    alerts_readable, cluster_facts, find_cluster, plan, suppression_rules,
};
use defender_sim::defender::identity::ClusterIdentity;
use defender_sim::defender::sensor::Provider;
use defender_sim::verify::FiredAlert;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apiserver::Proxy;
use crate::arm::{FakeArm, FakeCli, Fault, GROUP, HOST, SUBSCRIPTION, alert, alerts, exported};

/// What a token looks like, and what no text may hold.
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJwbGFudGVkIjoxfQ.planted";

/// Azure, a CLI that is logged in, and a connection.
async fn ready() -> (FakeArm, FakeCli, Arm) {
    let azure = FakeArm::start().await;
    let cli = FakeCli::new("az", TOKEN);
    azure.accept(TOKEN);
    let arm = Arm::new(azure.options(&cli.environment())).unwrap();
    (azure, cli, arm)
}

fn scope() -> Scope {
    Scope::new(SUBSCRIPTION, None).unwrap()
}

fn since() -> Timestamp {
    "2026-11-20T09:55:00Z".parse().unwrap()
}

/// The names of the alerts that a source has.
async fn names(source: &Source) -> Result<Vec<String>, AzureError> {
    let mut names = vec![];
    source
        .alerts(since(), |alert| {
            names.push(alert.id.rsplit('/').next().unwrap().to_owned());
        })
        .await?;
    Ok(names)
}

fn expected(count: usize) -> Vec<String> {
    let all = (0..count).map(|number| alert(number)["name"].as_str().unwrap().to_owned());
    all.collect()
}

async fn refused(arm: &Arm) -> AzureError {
    names(&Source::Alerts(arm.clone(), scope())).await.unwrap_err()
}

#[tokio::test]
async fn a_list_is_read_to_its_end_by_its_own_links() {
    let (azure, cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(25), 10));
    let source = Source::Alerts(arm.clone(), scope());
    assert_eq!(names(&source).await.unwrap(), expected(25));
    let paths: Vec<String> = azure
        .server
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    let first =
        format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/alerts?api-version=2022-01-01");
    assert_eq!(
        paths,
        [
            first.clone(),
            format!("{first}&$skiptoken=10"),
            format!("{first}&$skiptoken=20")
        ]
    );
    assert_eq!(cli.calls().len(), 1, "the CLI is asked once: {:?}", cli.calls());
    let audience = format!("--scope {}/.default", azure.server.url());
    assert!(cli.calls()[0].contains(&audience), "{:?}", cli.calls());
    assert!(cli.calls()[0].starts_with("account get-access-token -o json"));
    assert_eq!(arm.log_in().await.unwrap(), LoginKind::AzureCli);

    for (group, count) in [(GROUP, 25), ("rg-other", 0)] {
        let source = Source::Alerts(arm.clone(), Scope::new(SUBSCRIPTION, Some(group)).unwrap());
        assert_eq!(names(&source).await.unwrap().len(), count);
    }
}

#[tokio::test]
async fn resource_graph_is_read_by_one_query_and_its_skip_tokens() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(25), 10));
    let source = Source::Graph(arm, Scope::new(SUBSCRIPTION, Some(GROUP)).unwrap());
    assert_eq!(names(&source).await.unwrap(), expected(25));
    let asked: Vec<Value> = azure
        .server
        .requests()
        .iter()
        .filter(|request| request.method == "POST")
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect();
    assert_eq!(asked.len(), 3);
    for (asked, token) in asked
        .iter()
        .zip([Value::Null, json!("skip-10"), json!("skip-20")])
    {
        assert_eq!(asked["options"]["$skipToken"], token);
        assert_eq!(asked["options"]["$top"], 1000);
        assert_eq!(asked["subscriptions"], json!([SUBSCRIPTION]));
        let query = asked["query"].as_str().unwrap();
        for part in [
            "securityresources\n",
            "resourceGroup =~ 'rg-blue'",
            "datetime(2026-11-20T09:55:00Z)",
            "| project id, name, type, properties\n",
        ] {
            assert!(query.contains(part), "{part} in {query}");
        }
    }
}

#[tokio::test]
async fn an_alert_that_comes_late_is_in_the_next_look() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| state.alerts = vec![(0, alert(0)), (3, alert(1))]);
    for source in [Source::Alerts(arm.clone(), scope()), Source::Graph(arm, scope())] {
        for (now, count) in [(2, 1), (3, 2)] {
            azure.with(|state| state.now = now);
            assert_eq!(names(&source).await.unwrap(), expected(count));
        }
    }
}

fn throttled(headers: &[(&'static str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Fault::Status(429, headers.collect())
}

#[tokio::test]
async fn azure_is_waited_for_as_it_says_and_no_longer_than_there_is_patience() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| state.alerts = alerts(1));
    let http_date = |ahead: u64| {
        let time = SystemTime::now() + Duration::from_secs(ahead);
        let time = Timestamp::try_from(time)
            .unwrap()
            .to_zoned(jiff::tz::TimeZone::UTC);
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&time.timestamp())
            .unwrap()
    };
    for (headers, least, most) in [
        (vec![("retry-after", "1".to_owned())], 1000, 4000),
        (vec![("retry-after", http_date(2))], 500, 6000),
        (
            vec![("x-ms-user-quota-resets-after", "00:00:01".to_owned())],
            1000,
            4000,
        ),
    ] {
        let told = headers.clone();
        azure.fault(Fault::Status(429, headers));
        let begun = Instant::now();
        assert_eq!(
            names(&Source::Graph(arm.clone(), scope())).await.unwrap(),
            expected(1)
        );
        let took = begun.elapsed().as_millis();
        assert!((least..most).contains(&took), "{took} ms after {told:?}");
    }
    azure.fault(throttled(&[("retry-after", "120")]));
    let begun = Instant::now();
    let error = refused(&arm.with_patience(Duration::from_secs(60))).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(error.explained.cause, Cause::Busy);
    assert_eq!(error.explained.retry_after, Some(Duration::from_secs(120)));
    assert!(error.to_string().contains("again in 120 s"), "{error}");
}

#[tokio::test]
async fn resource_graph_is_not_asked_again_before_its_quota_is_new() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| state.alerts = alerts(1));
    let quota = |left: &str| {
        Fault::Headers(vec![
            ("x-ms-user-quota-remaining", left.to_owned()),
            ("x-ms-user-quota-resets-after", "00:00:02".to_owned()),
        ])
    };
    let source = Source::Graph(arm.clone(), scope());
    for (left, waits) in [("3", false), ("0", true)] {
        azure.fault(quota(left));
        names(&source).await.unwrap();
        let begun = Instant::now();
        names(&source).await.unwrap();
        assert_eq!(
            begun.elapsed() > Duration::from_millis(1500),
            waits,
            "{left} left"
        );
    }
    azure.fault(quota("0"));
    names(&source).await.unwrap();
    let hasty = Source::Graph(arm.with_patience(Duration::from_secs(1)), scope());
    assert_eq!(names(&hasty).await.unwrap_err().explained.cause, Cause::Busy);
}

#[tokio::test]
async fn a_token_is_renewed_once_when_azure_does_not_take_it() {
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
async fn a_token_near_its_end_is_renewed_but_not_for_every_request() {
    let (azure, cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(6), 2));
    // Less than what is left as a margin: used all the same, for half a minute.
    cli.gives(TOKEN, 60);
    for _ in 0..2 {
        names(&Source::Alerts(arm.clone(), scope())).await.unwrap();
    }
    assert_eq!(cli.calls().len(), 1);
}

#[tokio::test]
async fn a_refusal_names_right_role_and_scope() {
    let (azure, _cli, arm) = ready().await;
    assert!(alerts_readable(&arm, &scope()).await.unwrap());
    azure.with(|state| state.forbidden = true);
    assert!(!alerts_readable(&arm, &scope()).await.unwrap());
    for source in [
        Source::Alerts(arm.clone(), scope()),
        Source::Graph(arm.clone(), scope()),
    ] {
        let error = names(&source).await.unwrap_err();
        assert_eq!(error.explained.cause, Cause::Forbidden);
        let told = error.to_string();
        for part in [
            "Microsoft.Security/alerts/read",
            "Security Reader",
            &format!("on /subscriptions/{SUBSCRIPTION},"),
            "AuthorizationFailed",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(
            error
                .explained
                .hint
                .unwrap()
                .starts_with("have it assigned: az role assignment create")
        );
    }
    let error = plan(&arm, SUBSCRIPTION, None, true).await.unwrap_err();
    assert!(
        error.to_string().contains("Microsoft.Security/pricings/read"),
        "{error}"
    );
}

#[tokio::test]
async fn reads_are_repeated_when_azure_has_trouble_and_writes_are_not() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| state.alerts = alerts(1));
    let trouble = || Fault::Status(503, vec![]);
    for source in [
        Source::Alerts(arm.clone(), scope()),
        Source::Graph(arm.clone(), scope()),
    ] {
        azure.fault(trouble());
        azure.fault(trouble());
        assert_eq!(names(&source).await.unwrap(), expected(1));
        (0..3).for_each(|_| azure.fault(trouble()));
        let error = names(&source).await.unwrap_err();
        assert!(error.to_string().contains("Azure has trouble (503)"), "{error}");
    }
    let before = azure.server.requests().len();
    azure.fault(trouble());
    let call = Call {
        doing: "change something".to_owned(),
        right: Right::ALERTS,
        scope: String::new(),
    };
    arm.post(&call, "/somewhere", &json!({})).await.unwrap_err();
    assert_eq!(azure.server.requests().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_is_not_waited_for() {
    let azure = FakeArm::start().await;
    let cli = FakeCli::new("az", TOKEN);
    azure.accept(TOKEN);
    let arm = Arm::new(ArmOptions {
        request_timeout: Duration::from_millis(300),
        ..azure.options(&cli.environment())
    })
    .unwrap();
    let answer = Duration::from_secs(8);
    azure.fault(Fault::Slow(answer));
    let begun = Instant::now();
    let error = refused(&arm).await;
    assert_eq!(error.explained.cause, Cause::TimedOut);
    assert!(begun.elapsed() < answer, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn broken_answers_name_the_path_and_not_the_query() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(3), 2));
    azure.fault(Fault::Headers(vec![]));
    azure.fault(Fault::Broken);
    let error = refused(&arm).await;
    assert_eq!(error.explained.cause, Cause::Unreadable);
    let told = error.to_string();
    assert!(
        told.contains("/providers/Microsoft.Security/alerts cannot be read: it ends too early"),
        "{told}"
    );
    assert!(
        !told.contains("skiptoken") && !told.contains("api-version"),
        "{told}"
    );
    // Something else that answers with JSON is no empty list.
    let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/alertsSuppressionRules");
    azure.with(|state| state.objects.insert(path, json!({"status": "fine"})));
    let error = suppression_rules(&arm, SUBSCRIPTION).await.unwrap_err();
    assert!(error.to_string().contains("holds no list"), "{error}");
}

#[tokio::test]
async fn a_next_page_elsewhere_does_not_get_the_token() {
    let (azure, cli, _) = ready().await;
    let elsewhere = FakeArm::start().await;
    azure.with(|state| state.alerts = alerts(1));
    // Trusted, so that it is not the certificate that keeps the token here.
    let both = tempfile::NamedTempFile::new().unwrap();
    let certificates = [&azure, &elsewhere].map(|server| server.server.certificate().to_owned());
    std::fs::write(both.path(), certificates.concat()).unwrap();
    let arm = Arm::new(ArmOptions {
        certificate_authority: Some(both.path().to_owned()),
        ..azure.options(&cli.environment())
    })
    .unwrap();
    azure.fault(Fault::NextAt(format!("{}/next", elsewhere.server.url())));
    let error = refused(&arm).await;
    assert!(error.to_string().contains("another place"), "{error}");
    assert!(elsewhere.server.requests().is_empty());

    // A list that goes on at itself ends as well.
    let here = format!(
        "{}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/alerts?api-version=2022-01-01",
        azure.server.url()
    );
    (0..1000).for_each(|_| azure.fault(Fault::NextAt(here.clone())));
    let error = refused(&arm).await;
    assert!(error.to_string().contains("more than 1000 pages"), "{error}");
}

#[tokio::test]
async fn certificates_and_proxies_are_those_asked_for() {
    let (azure, cli, _) = ready().await;
    azure.with(|state| state.alerts = alerts(1));
    let without = ArmOptions {
        certificate_authority: None,
        ..azure.options(&cli.environment())
    };
    let error = match Arm::new(without) {
        Ok(arm) => refused(&arm).await,
        // A machine without any certificates of its own.
        Err(error) => error,
    };
    assert!(error.to_string().contains("certificate"), "{error}");
    let missing = ArmOptions {
        certificate_authority: Some("/does/not/exist.pem".into()),
        ..azure.options(&cli.environment())
    };
    let error = Arm::new(missing).err().unwrap();
    assert!(error.to_string().contains("/does/not/exist.pem"), "{error}");

    let proxy = Proxy::start(azure.server.address()).await;
    let port = azure.server.address().port();
    let address = format!("http://me:p%40ss@{}", proxy.address());
    for (exceptions, through) in [("", true), ("example.test", false)] {
        let environment: Environment = cli
            .variables(&[("HTTPS_PROXY", &address), ("NO_PROXY", exceptions)])
            .into_iter()
            .collect();
        let arm = Arm::new(ArmOptions {
            cloud: format!("https://{HOST}:{port}").parse().unwrap(),
            ..azure.options(&environment)
        })
        .unwrap();
        let answer = names(&Source::Alerts(arm, scope())).await;
        assert_eq!(answer.is_ok(), through, "{answer:?}");
    }
    assert_eq!(proxy.targets(), [format!("{HOST}:{port}")]);
}

#[tokio::test]
async fn who_is_logged_in_is_found_in_order() {
    let azure = FakeArm::start().await;
    azure.with(|state| state.alerts = alerts(1));
    let ask = async |environment: Environment, only: Option<LoginKind>| {
        let options = ArmOptions {
            cloud: azure.cloud(),
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

    // Workload identity, when its variables are set, comes before a CLI and stands for itself.
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
    // A token that is refused is not handed out again.
    azure.accept("none");
    names(&Source::Alerts(arm, scope())).await.unwrap();
    assert_eq!(azure.with(|state| state.issued), 2);
    std::fs::remove_file(&file).unwrap();
    let error = ask(environment, None).await.err().unwrap();
    assert_eq!(error.explained.cause, Cause::Login);
    assert!(error.to_string().contains("workload identity"), "{error}");
    assert_eq!(az.calls().len(), calls, "the CLI is not asked");
}

#[tokio::test]
async fn a_missing_login_says_what_to_do() {
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
        ("no JSON", "", 0, "its answer cannot be read"),
    ] {
        cli.answers(out, complaint, code);
        let arm = Arm::new(azure.options(&cli.environment())).unwrap();
        let error = refused(&arm).await;
        assert_eq!(error.explained.cause, Cause::Login);
        assert!(error.to_string().contains(part), "{part} in {error}");
        assert_eq!(
            error.explained.hint.as_deref(),
            Some("az login, or azd auth login")
        );
    }
    assert!(azure.server.requests().is_empty());
}

#[tokio::test]
async fn no_token_is_in_any_text() {
    let (azure, cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(2), 1));
    let mut told = vec![format!("{:?} {:?}", arm.cloud(), arm.log_in().await)];
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
        told.push(format!("{error} {error:?}"));
    }
    azure.accept("another");
    told.push(format!("{:?}", refused(&arm).await));
    // Whatever a CLI says, in whatever form. What looks like no token would pass as a word.
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
        told.push(format!("{error} {error:?}"));
    }
    assert_eq!(told.len(), 12);
    for told in told {
        assert!(!told.contains("planted") && !told.contains("eyJ"), "{told}");
    }
    // It was there to be found.
    let sent = azure.server.requests()[0].header("authorization");
    assert_eq!(sent, format!("Bearer {TOKEN}"));
}

fn write(folder: &Path, content: &str) -> Source {
    let path = folder.join("alerts.json");
    std::fs::write(&path, content).unwrap();
    Source::Saved(Saved::File(path))
}

/// The alerts in a file, and what else is said of it.
async fn read(source: &Source) -> Result<(Vec<FiredAlert>, Answer), AzureError> {
    let mut alerts = vec![];
    let answer = source.alerts(since(), |alert| alerts.push(alert)).await?;
    Ok((alerts, answer))
}

fn parsed(alerts: &[Value]) -> Vec<FiredAlert> {
    alerts
        .iter()
        .map(|alert| FiredAlert::parse(alert).unwrap())
        .collect()
}

/// Rows of a table, as Log Analytics and Resource Graph have them.
fn tabular(alerts: &[Value]) -> Value {
    let names: Vec<&String> = alerts[0].as_object().unwrap().keys().collect();
    let columns: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "type": "string"}))
        .collect();
    let row = |alert: &Value| names.iter().map(|name| alert[*name].clone()).collect::<Value>();
    json!({"name": "PrimaryResult", "columns": columns, "rows": alerts.iter().map(row).collect::<Value>()})
}

#[tokio::test]
async fn files_are_read_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let both = [alert(0), alert(1)];
    let lines = format!("{}\n{}\n", both[0], both[1]);
    let export = [exported(&both[0]), exported(&both[1])];
    let other = json!({"type": "Microsoft.Security/assessments", "properties": {"displayName": "x"}});
    for (content, expected) in [
        (json!({"value": both, "nextLink": ""}).to_string(), &both[..]),
        (
            json!({"count": 2, "data": both, "skip_token": null, "resultTruncated": "false"}).to_string(),
            &both,
        ),
        (json!({"Data": both, "SkipToken": null}).to_string(), &both),
        (json!({"value": both, "Count": 2}).to_string(), &both),
        (json!({"records": export}).to_string(), &export),
        (json!({"tables": [tabular(&export)]}).to_string(), &export),
        (json!({"count": 2, "data": tabular(&both)}).to_string(), &both),
        (json!(both).to_string(), &both),
        (format!("\u{feff}{}", json!(both)), &both),
        (json!(export).to_string(), &export),
        (lines.clone(), &both),
        (format!("{}\r\n{}", export[0], export[1]), &export),
        (both[0].to_string(), &both[..1]),
        (format!("{}\n{}", json!([both[0]]), json!([both[1]])), &both),
        // What is no alert is left out where there is one, in any order and any form.
        (json!([other, both[0], both[1]]).to_string(), &both),
        (format!("{other}\n{}\n{other}\n{}", both[0], both[1]), &both),
        // One page after the other, to the last.
        (
            format!(
                "{}\n{}",
                json!({"value": [both[0]], "nextLink": "x"}),
                json!({"value": [both[1]]})
            ),
            &both,
        ),
    ] {
        let source = write(folder.path(), &content);
        let (alerts, answer) = read(&source).await.unwrap();
        assert!(answer.whole, "{content:.80}");
        assert_eq!(alerts, parsed(expected), "{content:.80}");
        // The same as Windows PowerShell writes it.
        let Source::Saved(Saved::File(path)) = &source else {
            unreachable!()
        };
        let text = format!("\u{feff}{}", content.trim_start_matches('\u{feff}'));
        for encode in [u16::to_le_bytes, u16::to_be_bytes as fn(u16) -> [u8; 2]] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(encode).collect();
            std::fs::write(path, bytes).unwrap();
            assert_eq!(read(&source).await.unwrap().0, alerts, "{content:.80}");
        }
    }
    for page in [
        json!({"value": both, "nextLink": "x"}),
        json!({"data": both, "$skipToken": "x"}),
        json!({"data": both, "skip_token": "x"}),
        json!({"data": both, "resultTruncated": "true"}),
        json!({"value": [], "nextLink": "x"}),
    ] {
        let (_, answer) = read(&write(folder.path(), &page.to_string())).await.unwrap();
        assert!(!answer.whole, "{page:.80}");
    }
    for (content, others) in [
        (json!([]), 0),
        (json!({"value": null}), 0),
        (json!({}), 0),
        (json!({"count": 1, "data": {"columns": [], "rows": []}}), 1),
        (
            json!({"tables": [{"name": "PrimaryResult", "columns": [], "rows": []}]}),
            0,
        ),
        (json!([{"id": "a row", "name": "secret"}]), 1),
        (json!([other, other]), 2),
    ] {
        let (alerts, answer) = read(&write(folder.path(), &content.to_string())).await.unwrap();
        assert_eq!((alerts, answer.others), (vec![], others), "{content}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("{}\n{}\n", alert(0), alert(1));
    for (content, part) in [
        (String::new(), "ends too early"),
        ("secret".to_owned(), "not JSON"),
        ("\"secret\"".to_owned(), "neither an object nor an array"),
        (lines[..lines.len() - 9].to_owned(), "ends too early"),
        (
            json!({"error": {"code": "secret"}}).to_string(),
            "a request that failed",
        ),
        (
            format!("{lines}{}", json!({"error": {}})),
            "a request that failed",
        ),
    ] {
        let error = read(&write(folder.path(), &content)).await.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(
            told.contains(part) && told.contains("alerts.json"),
            "{part} in {told}"
        );
        assert!(!told.contains("secret"), "{told}");
    }
    let path = folder.path().join("torn");
    for torn in [&b"\xff\xfe["[..], b"\xff\xfe\x00\xd8", b"\xfe\xff\xdc\x00"] {
        std::fs::write(&path, torn).unwrap();
        let error = read(&Source::Saved(Saved::File(path.clone()))).await.unwrap_err();
        assert!(error.to_string().contains("UTF-16"), "{error}");
    }
    let large = folder.path().join("large");
    std::fs::File::create(&large)
        .unwrap()
        .set_len((256 << 20) + 1)
        .unwrap();
    for (path, part) in [
        (large, "larger than 256 MiB"),
        (folder.path().to_owned(), "directory"),
        (folder.path().join("absent"), "No such file"),
    ] {
        let error = read(&Source::Saved(Saved::File(path))).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

const FORM: &str = "DEFENDER_SIM_TEST_FORM";

/// Ten thousand alerts, read in a process that does nothing else, so that its memory can be told. One half of
/// the test below, which starts it; by itself it is nothing.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "it is how the other half learns of it")]
async fn ten_thousand_alerts_alone() {
    let Ok(form) = std::env::var(FORM) else {
        return;
    };
    let (form, place) = form.split_once(' ').unwrap();
    let source = if form == "file" {
        Source::Saved(Saved::File(place.into()))
    } else {
        let arm = Arm::new(ArmOptions {
            cloud: place.parse().unwrap(),
            certificate_authority: std::env::var_os("DEFENDER_SIM_TEST_CA").map(Into::into),
            environment: Environment::from_process(),
            ..ArmOptions::default()
        })
        .unwrap();
        match form {
            "rest" => Source::Alerts(arm, scope()),
            _ => Source::Graph(arm, scope()),
        }
    };
    let begun = Instant::now();
    let mut mentions = 0;
    let answer = source
        .alerts(since(), |alert| mentions += alert.about.mentions.len())
        .await
        .unwrap();
    let (took, count) = (begun.elapsed().as_millis(), answer.alerts);
    assert!(mentions > count);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak = line.split_whitespace().nth(1).unwrap();
    println!("\nmeasured {count} {took} {peak}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::print_stdout,
    reason = "whoever changes the reader wants to see the numbers"
)]
async fn ten_thousand_alerts_take_little_time_and_memory() {
    let azure = FakeArm::start().await;
    let cli = FakeCli::new("az", TOKEN);
    azure.accept(TOKEN);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.json");
    let all: Vec<Value> = (0..10_000).map(alert).collect();
    std::fs::write(&file, json!(all).to_string()).unwrap();
    for form in ["rest", "graph", "file"] {
        azure.prepare(&all, form == "graph");
        let place = if form == "file" {
            file.display().to_string()
        } else {
            azure.server.url()
        };
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "azure::ten_thousand_alerts_alone"])
            .envs(cli.variables(&[(FORM, &format!("{form} {place}"))]))
            .env("DEFENDER_SIM_TEST_CA", azure.authority())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let measured = said.lines().find_map(|line| line.strip_prefix("measured "));
        let measured =
            measured.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        println!("{form}: {measured}");
        let numbers: Vec<u64> = measured
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        let [count, milliseconds, kilobytes] = numbers[..] else {
            panic!("{measured}");
        };
        // What is not optimised, on a machine that others use as well, takes its time.
        let most = if cfg!(debug_assertions) { 120_000 } else { 2_000 };
        assert_eq!(count, 10_000);
        assert!(milliseconds < most, "{form}: {milliseconds} ms");
        assert!(kilobytes < 100_000, "{form}: {kilobytes} kB");
    }
}

fn row(name: &str, fqdn: &str, private: &str) -> Value {
    let id = id_of(name);
    json!({"id": id, "fqdn": fqdn, "private": private, "portal": ""})
}

fn id_of(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters/{name}"
    )
}

fn of(marks: ClusterIdentity) -> ClusterHints {
    ClusterHints {
        marks,
        ..ClusterHints::default()
    }
}

#[tokio::test]
async fn a_cluster_of_another_cloud_is_found_by_its_connector() {
    let (azure, _cli, arm) = ready().await;
    let connector = |name: &str| {
        format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Security/securityConnectors/{name}"
        )
    };
    let rows = ["aws", "other"].map(|name| json!({"id": connector(name)}));
    for (name, rows, part, last, found) in [
        (
            "arn:aws:eks:eu-west-1:111122223333:cluster/blue",
            &rows[..1],
            "tostring(properties.hierarchyIdentifier) =~ '111122223333'",
            "connector of AWS account 111122223333: found; that it has the cluster is assumed",
            true,
        ),
        (
            "gke_shop-1_europe-west1_blue",
            &rows[..2],
            "tostring(properties.environmentData.projectDetails.projectId) =~ 'shop-1'",
            "connector of Google project shop-1: several, so none is taken",
            false,
        ),
        (
            "gke_shop-1_europe-west1_blue",
            &[],
            "securityconnectors",
            "none that the login can read",
            false,
        ),
    ] {
        azure.with(|state| state.resources = rows.to_vec());
        let marks = ClusterIdentity::of_kubeconfig("https://x.example.test", Some(name));
        let search = find_cluster(&arm, &of(marks)).await.unwrap();
        let asked = String::from_utf8(azure.server.requests().last().unwrap().body.to_vec()).unwrap();
        assert!(asked.contains(part), "{asked}");
        assert!(search.tried[0].ends_with(last), "{:?}", search.tried);
        let id = search.found.map(|cluster| cluster.id);
        assert_eq!(
            id,
            found.then(|| format!("{}/securityentitydata/blue", connector("aws")))
        );
    }

    // The plan is the connector's, not that of the subscription.
    let cluster: AzureCluster = format!("{}/securityentitydata/blue", connector("aws"))
        .parse()
        .unwrap();
    for (offering, on) in [("DefenderForContainersAws", true), ("CspmMonitorAws", false)] {
        let body = json!({"properties": {"offerings": [{"offeringType": offering}]}});
        azure.with(|state| state.objects.insert(connector("aws"), body));
        for certain in [true, false] {
            let plan = plan(&arm, SUBSCRIPTION, Some(&cluster), certain).await.unwrap();
            assert_eq!((plan.on, plan.of.as_str()), (on, "connector aws"));
            assert_eq!(plan.decides, certain);
        }
    }
    // It decides where the user named it, or where Azure Arc is known not to be there.
    let named = AzureOptions {
        resource_id: Some(cluster.id),
        ..AzureOptions::default()
    };
    let noted = |noted| ClusterIdentity {
        arc: noted,
        ..ClusterIdentity::default()
    };
    let there: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
    for (options, arc, certain) in [
        (&named, None, true),
        (&AzureOptions::default(), None, false),
        (&AzureOptions::default(), Some(Err("no".to_owned())), false),
        (&AzureOptions::default(), Some(Ok(there)), false),
        (&AzureOptions::default(), Some(Ok(BTreeMap::new())), true),
    ] {
        assert_eq!(options.certain(&noted(arc.clone())), certain, "{arc:?}");
    }
}

#[tokio::test]
async fn a_cluster_is_found_by_what_is_known_of_it() {
    let (azure, _cli, arm) = ready().await;
    let text = |text: &str| Some(text.to_owned());
    let arc: BTreeMap<String, String> = [
        ("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION),
        ("AZURE_RESOURCE_GROUP", "rg-arc"),
        ("AZURE_RESOURCE_NAME", "green"),
        ("AZURE_REGION", "westeurope"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();

    // Neither of these asks Azure.
    let given = ClusterHints {
        resource_id: Some(id_of("blue")),
        ..of(ClusterIdentity {
            arc: Some(Ok(arc.clone())),
            ..ClusterIdentity::default()
        })
    };
    let found = find_cluster(&arm, &given).await.unwrap().found.unwrap();
    assert_eq!((found.name.as_str(), found.kind), ("blue", ClusterKind::Aks));
    let connected = of(ClusterIdentity {
        arc: Some(Ok(arc)),
        server: text("api.example.test"),
        ..ClusterIdentity::default()
    });
    let found = find_cluster(&arm, &connected).await.unwrap().found.unwrap();
    assert_eq!(
        (found.resource_group.as_str(), found.kind),
        ("rg-arc", ClusterKind::Arc)
    );
    // Alerts do not name a cluster of EKS or GKE as Azure Arc does.
    for (cloud, arc, found) in [
        (Provider::Eks, true, false),
        (Provider::Gke, true, false),
        (Provider::Gke, false, false),
        (Provider::Aks, true, true),
    ] {
        let hints = of(ClusterIdentity {
            cloud: Some(cloud),
            arc: connected.marks.arc.clone().filter(|_| arc),
            ..connected.marks.clone()
        });
        let search = find_cluster(&arm, &hints).await.unwrap();
        assert_eq!(search.found.is_some(), found, "{cloud:?} {:?}", search.tried);
        let told = search.tried.last().unwrap();
        assert!(found || told.starts_with("a connector: not looked for"), "{told}");
    }
    let nothing = of(ClusterIdentity {
        server: text("10.0.0.1"),
        ..ClusterIdentity::default()
    });
    let search = find_cluster(&arm, &nothing).await.unwrap();
    assert_eq!((search.found, search.tried.len()), (None, 2));
    let looked = |arc| async {
        let nothing = of(ClusterIdentity {
            arc,
            ..ClusterIdentity::default()
        });
        find_cluster(&arm, &nothing).await.unwrap().tried.remove(0)
    };
    for (arc, came) in [
        (None, "the cluster was not asked"),
        (Some(Err("you may not".to_owned())), "you may not"),
        (Some(Ok(BTreeMap::new())), "nothing there"),
    ] {
        let told = format!("what Azure Arc left in the cluster: {came}");
        assert_eq!(looked(arc).await, told);
    }
    assert!(azure.server.requests().is_empty());

    let (host, private) = (
        "blue-1.hcp.westeurope.azmk8s.io",
        "blue-1.privatelink.westeurope.azmk8s.io",
    );
    let node =
        format!("azure:///subscriptions/{SUBSCRIPTION}/resourceGroups/mc/providers/Microsoft.Compute/x");
    let hints = |server: Option<String>, group: Option<String>| {
        of(ClusterIdentity {
            server,
            node_resource_group: group,
            provider_ids: vec!["aws:///x/y".to_owned(), node.clone()],
            ..ClusterIdentity::default()
        })
    };
    let rows = [
        row("red", "red-1.hcp.westeurope.azmk8s.io", ""),
        row("blue", host, private),
    ];
    for (rows, server, group, expected, last) in [
        (
            &rows[..],
            text("BLUE-1.hcp.westeurope.azmk8s.io"),
            None,
            Some("blue"),
            ": found",
        ),
        (&rows[..], text(private), text("MC_x"), Some("blue"), ": found"),
        (
            &rows[..1],
            text(host),
            text("MC_x"),
            Some("red"),
            "the nodes' resource group MC_x: found",
        ),
        (
            &rows[..],
            text("10.0.0.1"),
            text("MC_x"),
            None,
            "several AKS clusters, so none is taken",
        ),
        (
            &rows[..0],
            text(host),
            None,
            None,
            "no AKS cluster that the login can read",
        ),
    ] {
        azure.with(|state| state.resources = rows.to_vec());
        let search = find_cluster(&arm, &hints(server, group)).await.unwrap();
        assert_eq!(search.found.map(|cluster| cluster.name).as_deref(), expected);
        assert!(search.tried.last().unwrap().ends_with(last), "{:?}", search.tried);
    }
    let hostile = hints(text("x' or '1' =~ '1"), Some("g".repeat(63)));
    find_cluster(&arm, &hostile).await.unwrap();
    let asked: Value = serde_json::from_slice(&azure.server.requests().last().unwrap().body).unwrap();
    let query = asked["query"].as_str().unwrap();
    assert!(
        query.contains(r"properties.fqdn =~ 'x\' or \'1\' =~ \'1'"),
        "{query}"
    );
    assert!(
        query.contains("nodeResourceGroup startswith 'ggg"),
        "a label is cut off: {query}"
    );
    assert_eq!(asked["subscriptions"], json!([SUBSCRIPTION]), "of the nodes");
}

#[tokio::test]
async fn how_defender_is_set_up_is_read() {
    let (azure, _cli, arm) = ready().await;
    let security = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security");
    azure.with(|state| {
        state.objects.insert(
            format!("{security}/pricings/Containers"),
            json!({"name": "Containers", "properties": {"pricingTier": "Standard", "extensions": [
                {"name": "ContainerSensor", "isEnabled": "True"},
                {"name": "ContainerRegistriesVulnerabilityAssessments", "isEnabled": "False"},
            ]}}),
        );
        state.objects.insert(
            format!("{security}/alertsSuppressionRules"),
            json!({"value": [
                {"name": "quiet", "properties": {"alertType": "K8S.NODE_Invented", "state": "Enabled",
                    "expirationDateUtc": "2026-12-24T00:00:00Z", "reason": "Other",
                    "suppressionAlertsScope": {"allOf": [{"field": "entities.host.name", "in": ["x"]}]}}},
                {"name": "old", "properties": {"alertType": "*", "state": "Expired"}},
            ]}),
        );
        state.objects.insert(
            id_of("blue"),
            json!({"tags": {"MS_Defender_Container_Exclude_Sensors": "True", "ms_defender_e2e_discovery_exclude": "false",
                "team": "true"}, "properties": {"securityProfile": {"defender": {"securityMonitoring": {"enabled": true}}}}}),
        );
        state.objects.insert(id_of("bare"), json!({"properties": {}}));
    });
    let seen = plan(&arm, SUBSCRIPTION, None, true).await.unwrap();
    assert!(seen.on);
    let parts: Vec<bool> = seen.extensions.iter().map(|part| part.enabled).collect();
    assert_eq!(
        (seen.extensions[0].name.as_str(), parts),
        ("ContainerSensor", vec![true, false])
    );

    let facts = async |name: &str| cluster_facts(&arm, &id_of(name).parse().unwrap()).await;
    let exclusions = vec!["ms_defender_container_exclude_sensors".to_owned()];
    assert_eq!(
        facts("blue").await.unwrap(),
        ClusterFacts {
            sensor: Some(true),
            exclusions
        }
    );
    assert_eq!(facts("bare").await.unwrap(), ClusterFacts::default());
    assert_eq!(facts("gone").await.unwrap_err().explained.cause, Cause::NotFound);

    let rules = suppression_rules(&arm, SUBSCRIPTION).await.unwrap();
    let rule = |name: &str, alert_type: &str, state: &str, expires: Option<&str>| SuppressionRule {
        name: name.to_owned(),
        alert_type: alert_type.to_owned(),
        state: state.to_owned(),
        expires: expires.map(|time| time.parse().unwrap()),
        conditions: name == "quiet",
    };
    assert_eq!(
        rules,
        [
            rule(
                "quiet",
                "K8S.NODE_Invented",
                "Enabled",
                Some("2026-12-24T00:00:00Z")
            ),
            rule("old", "*", "Expired", None),
        ]
    );
    assert!(plan(&arm, "no subscription", None, true).await.is_err());
}
