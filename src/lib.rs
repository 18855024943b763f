//! `kubectl defender-sim`: harmless attack simulations against Microsoft Defender for Containers, proved
//! step by step from inside the victim and cleaned up.
//!
//! ```text
//! arguments --cli--> Invocation --plan--> Plan --manifest--> Manifests
//!                                          |                    |
//!              scenario (YAML) ------------+                    v
//!                                                engine --cluster--> Kubernetes
//!                                          Event |  ^ attacker's log: scenario::proof, untrusted
//!                                                v
//!                                     report (the only printer) <-- RunResult
//! ```
//!
//! `doctor` only looks: a plan and a cluster in, a result out. `verify` reads alerts through `azure` until
//! `defender` has a verdict on each that a result expects; `history` keeps results for later. `lint` reads and checks
//! the scenario files that `files` finds.
//!
//! `scenario`, `plan`, `manifest`, `defender`, `result`, `guard`, `exit`, `kubectl`, `net::proxy`, `untrusted`,
//! `words` and `yaml` are pure: they import no client and no runtime, which a test checks. `cluster` is the only place
//! that talks to Kubernetes, `azure` the only one that talks to Azure, `net::registry` to image registries; the last
//! two share `net::http`. What comes from there, from a record, or from the attacker's log, is cleaned by
//! `untrusted` where it comes in. Whatever else is printed, such as a scenario file or an argument, is made visible by
//! `report::style`, through which all output passes.

pub mod azure;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod defender;
pub mod doctor;
pub mod engine;
pub mod event;
pub mod exit;
pub mod files;
pub mod guard;
pub mod history;
pub mod kubectl;
pub mod lint;
pub mod manifest;
pub mod net;
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
