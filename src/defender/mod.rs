//! What is publicly known about Microsoft Defender for Containers. Pure data.

pub mod alerts;
pub mod facts;
pub mod marks;
pub mod sensor;
