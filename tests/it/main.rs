//! Every test that needs more than one module: the command line without a cluster, the walls between the
//! layers, and (ignored unless asked for, since they need root and the range) runs on real pods.

mod cli;
mod cluster;
mod connecting;
mod range;
mod trees;
mod walls;
