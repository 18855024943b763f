//! The network below Azure, image registries and the Kubernetes client: proxy rules, HTTP with its certificates,
//! and the protocol of image registries.

pub mod http;
pub mod proxy;
pub mod registry;
