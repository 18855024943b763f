//! Integration tests: every test that needs more than one module.
//!
//! They cover the command line without a cluster, the boundaries between modules, results against external schemas, and
//! runs on real pods. The latter are ignored by default, because they need root and the range.

#[path = "../support/apiserver.rs"]
mod apiserver;
#[path = "../support/arm.rs"]
mod arm;
mod azure;
mod bounds;
mod cli;
mod cluster;
mod completion;
mod connect;
mod connecting;
mod contract;
mod cover;
mod doctor;
mod export;
mod faults;
mod files;
mod fleet;
mod guarding;
mod handover;
mod hints;
mod images;
mod kubectl;
mod lint;
#[path = "../support/nasty.rs"]
mod nasty;
mod nodes;
mod output;
mod ownership;
mod pods;
mod proofs;
mod range;
mod recorder;
mod records;
mod requests;
#[path = "../support/results.rs"]
mod results;
mod rights;
mod runtime;
mod scale;
mod schedule;
mod settings;
mod snapshots;
mod terminal;
mod trees;
mod verify;
mod walls;

// Modules that `results` refers to by the root of the crate.
use defender_sim::{exit, result, scenario};
