//! Public knowledge about Microsoft Defender for Containers: its alerts, its sensor, and how it identifies clusters.
//! Imports nothing of the crate.

pub mod alerts;
pub mod facts;
pub mod identity;
pub mod sensor;
mod sensor_facts;
