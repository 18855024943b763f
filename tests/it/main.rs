//! Every test that needs more than one module: the command line without a cluster, the walls between the
//! layers, and (ignored unless asked for, since they need root and the range) runs on real pods.

#[path = "../support/apiserver.rs"]
mod apiserver;
mod cli;
mod cluster;
mod connect;
mod connecting;
mod range;
mod trees;
mod walls;
