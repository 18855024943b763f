//! The network below Azure, image registries and the Kubernetes client: the process environment, proxy rules, HTTP
//! with its certificates, the protocol of image registries, and why a request failed.

mod environment;
mod explanation;
pub(crate) mod http;
pub(crate) mod pem;
pub(crate) mod proxy;
pub(crate) mod pushgateway;
pub(crate) mod registry;

pub use environment::Environment;
pub(crate) use explanation::causes;
pub use explanation::{Cause, Explanation};
