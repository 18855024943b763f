//! The network below Azure, image registries and the Kubernetes client: the process environment, proxy rules, HTTP
//! with its certificates, and the protocol of image registries.

mod environment;
pub mod http;
pub mod proxy;
pub mod registry;

pub use environment::Environment;
