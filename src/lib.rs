//! `kubectl defender-sim`: harmless attack simulations that validate Microsoft Defender for Containers.
//!
//! ```text
//! arguments --cli--> Invocation --commands--> Session { report, events, cluster }
//!                                     |
//!     scenario (YAML) --plan--> Plan --manifest--> objects
//!                                     |
//!                           engine --cluster--> Kubernetes          event --> report (progress)
//!                                     |
//!                                 RunResult --verify--(azure | file)--> Verification
//!                                     |
//!                                  report --> tables, JSON, YAML, JUnit, Markdown, HTML, Navigator
//! ```
//!
//! `commands` has one file per command: each plans, acts, and returns what has to be printed when its progress is over.
//! For several clusters, `commands::fleet` has one session for each, side by side, with one display and one result.
//! `doctor` only reads: a plan and a cluster in, a result out. `history` keeps results, `handover` tells a SOC what a
//! result means for it, `lint` checks scenario files.
//!
//! `error` decides the exit code and the hint of every failure; `azure`, `cluster` and everything below them have errors
//! of their own, which it converts.
//!
//! The walls, which a test holds (`tests/it/walls.rs`): only `commands` imports `cli`; `scenario`, `plan`, `manifest`,
//! `defender`, `result`, `guard`, `exit`, `kubectl`, `net::proxy`, `untrusted`, `words` and `yaml` are pure, without a
//! client, a runtime or a process; only `cluster` talks to Kubernetes, only `azure` to Azure, only `net::registry` to
//! image registries, the last two by `net::http`; only `report` prints.
//!
//! Text from a cluster, a record or the attacker's log is cleaned by `untrusted` where it comes in. Whatever else is
//! printed, such as a scenario file or an argument, is made visible by `report::style`, through which all output passes.

pub mod azure;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod defender;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod event;
pub mod exit;
pub mod files;
pub mod guard;
pub mod handover;
pub mod history;
pub mod kql;
pub mod kubectl;
pub mod lint;
pub mod manifest;
pub mod net;
mod node;
pub mod note;
pub mod plan;
pub mod report;
pub mod result;
pub mod scenario;
pub mod schema;
pub mod signal;
pub mod untrusted;
pub mod verify;
pub mod words;
pub mod yaml;
