//! Proxies between this program and the API server.

use defender_sim::net::Cause;
use serde_json::json;

use super::{ask, connect, environment, kubeconfig, to, unused_address, version};
use crate::apiserver::{ApiServer, Proxy};

#[tokio::test]
async fn proxy_of_environment_is_used_except_for_loopback() {
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
async fn proxy_url_of_kubeconfig_is_used() {
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
async fn unreachable_proxy_is_named() {
    let address = unused_address().await;
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
