pub mod cluster;
pub mod defender;
pub mod exit;
pub mod manifest;
pub mod plan;
pub mod scenario;
pub mod secret;
