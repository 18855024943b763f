//! Every test that needs more than one module: the command line without a cluster, the walls between the
//! layers, results against the schemas of others, and (ignored unless asked for, since they need root and the
//! range) runs on real pods.

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
mod doctor;
mod export;
mod faults;
mod files;
mod guarding;
mod hints;
mod images;
mod kubectl;
mod lint;
#[path = "../support/nasty.rs"]
mod nasty;
mod output;
mod ownership;
mod pods;
mod proofs;
mod range;
mod records;
#[path = "../support/results.rs"]
mod results;
mod rights;
mod settings;
mod terminal;
mod trees;
mod verify;
mod walls;

// What `results` names through the root of the crate.
use defender_sim::{exit, result, scenario};
