//! What is deleted and what is kept.

mod fake;
mod real;
mod signals;
