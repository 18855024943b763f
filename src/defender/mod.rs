//! What is publicly known about Microsoft Defender for Containers. Pure data.

pub mod alerts;
pub mod attribution;
pub mod facts;
pub mod fired;
pub mod marks;
pub mod sensor;
pub mod verdict;
