pub mod cluster;
pub mod exit;
