//! Requests to Azure Resource Manager and Resource Graph: pages, retries, rejections, proxies.

use std::time::{Duration, Instant, SystemTime};

use defender_sim::azure::{
    Arm, ArmOptions, LoginKind, Scope, Source, can_read_alerts, plan, suppression_rules,
};
use defender_sim::net::{Cause, Environment};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{TOKEN, expected, names, ready, refused, scope, throttled};
use crate::apiserver::Proxy;
use crate::arm::{FakeArm, FakeCli, Fault, GROUP, HOST, SUBSCRIPTION, alert, alerts};

#[tokio::test]
async fn list_is_read_to_its_end_by_next_links() {
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
async fn resource_graph_is_read_by_one_query_and_skip_tokens() {
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
async fn late_alert_is_in_the_next_read() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| state.alerts = vec![(0, alert(0)), (3, alert(1))]);
    for source in [Source::Alerts(arm.clone(), scope()), Source::Graph(arm, scope())] {
        for (now, count) in [(2, 1), (3, 2)] {
            azure.with(|state| state.now = now);
            assert_eq!(names(&source).await.unwrap(), expected(count));
        }
    }
}

#[tokio::test]
async fn throttled_request_waits_up_to_the_time_limit() {
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
        let reported = headers.clone();
        azure.fault(Fault::Status(429, headers));
        let begun = Instant::now();
        assert_eq!(
            names(&Source::Graph(arm.clone(), scope())).await.unwrap(),
            expected(1)
        );
        let took = begun.elapsed().as_millis();
        assert!((least..most).contains(&took), "{took} ms after {reported:?}");
    }
    azure.fault(throttled(&[("retry-after", "150")]));
    let begun = Instant::now();
    let error = refused(&arm).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(error.explained.cause, Cause::Busy);
    assert_eq!(error.explained.retry_after, Some(Duration::from_secs(150)));
    assert!(error.to_string().contains("another 150 s"), "{error}");
}

#[tokio::test]
async fn resource_graph_is_not_queried_before_its_quota_is_reset() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| state.alerts = alerts(1));
    let quota = |left: &str, resets: &str| {
        Fault::Headers(vec![
            ("x-ms-user-quota-remaining", left.to_owned()),
            ("x-ms-user-quota-resets-after", resets.to_owned()),
        ])
    };
    let source = Source::Graph(arm, scope());
    for (left, waits) in [("3", false), ("0", true)] {
        azure.fault(quota(left, "00:00:02"));
        names(&source).await.unwrap();
        let begun = Instant::now();
        names(&source).await.unwrap();
        assert_eq!(
            begun.elapsed() > Duration::from_millis(1500),
            waits,
            "{left} left"
        );
    }
    azure.fault(quota("0", "00:05:00"));
    names(&source).await.unwrap();
    assert_eq!(names(&source).await.unwrap_err().explained.cause, Cause::Busy);
}

#[tokio::test]
async fn refusal_names_permission_role_and_scope() {
    let (azure, _cli, arm) = ready().await;
    assert!(can_read_alerts(&arm, &scope()).await.unwrap());
    azure.with(|state| state.forbidden = true);
    assert!(!can_read_alerts(&arm, &scope()).await.unwrap());
    for source in [
        Source::Alerts(arm.clone(), scope()),
        Source::Graph(arm.clone(), scope()),
    ] {
        let error = names(&source).await.unwrap_err();
        assert_eq!(error.explained.cause, Cause::Forbidden);
        let reported = error.to_string();
        for part in [
            "Microsoft.Security/alerts/read",
            "Security Reader",
            &format!("on /subscriptions/{SUBSCRIPTION},"),
            "AuthorizationFailed",
        ] {
            assert!(reported.contains(part), "{part} in {reported}");
        }
        assert!(
            error
                .explained
                .hint
                .unwrap()
                .starts_with("have the role assigned: az role assignment create")
        );
    }
    let error = plan(&arm, SUBSCRIPTION, None, true).await.unwrap_err();
    assert!(
        error.to_string().contains("Microsoft.Security/pricings/read"),
        "{error}"
    );
}

#[tokio::test]
async fn reads_are_retried_when_azure_fails() {
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
        assert!(error.to_string().contains("Azure failed (503)"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_answer_times_out() {
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
async fn truncated_answer_is_an_error_without_the_query() {
    let (azure, _cli, arm) = ready().await;
    azure.with(|state| (state.alerts, state.page) = (alerts(3), 2));
    azure.fault(Fault::Headers(vec![]));
    azure.fault(Fault::Broken);
    let error = refused(&arm).await;
    assert_eq!(error.explained.cause, Cause::Unreadable);
    let reported = error.to_string();
    assert!(
        reported.contains("/providers/Microsoft.Security/alerts cannot be parsed: it ends too early"),
        "{reported}"
    );
    assert!(
        !reported.contains("skiptoken") && !reported.contains("api-version"),
        "{reported}"
    );
    // Any other JSON response is not treated as an empty list.
    let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/alertsSuppressionRules");
    azure.with(|state| state.objects.insert(path, json!({"status": "fine"})));
    let error = suppression_rules(&arm, SUBSCRIPTION).await.unwrap_err();
    assert!(error.to_string().contains("holds no list"), "{error}");
}

#[tokio::test]
async fn next_page_of_another_origin_does_not_get_the_token() {
    let (azure, cli, _) = ready().await;
    let elsewhere = FakeArm::start().await;
    azure.with(|state| state.alerts = alerts(1));
    // Trusted, so that the missing token is not due to the certificate.
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
    assert!(error.to_string().contains("another origin"), "{error}");
    assert!(elsewhere.server.requests().is_empty());

    // A list whose next page is itself ends as well.
    let here = format!(
        "{}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/alerts?api-version=2022-01-01",
        azure.server.url()
    );
    (0..1000).for_each(|_| azure.fault(Fault::NextAt(here.clone())));
    let error = refused(&arm).await;
    assert!(error.to_string().contains("more than 1000 pages"), "{error}");
}

#[tokio::test]
async fn certificates_and_proxies_are_those_of_the_options() {
    let (azure, cli, _) = ready().await;
    azure.with(|state| state.alerts = alerts(1));
    let without = ArmOptions {
        certificate_authority: None,
        ..azure.options(&cli.environment())
    };
    let error = match Arm::new(without) {
        Ok(arm) => refused(&arm).await,
        // The machine has no certificates of its own.
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
