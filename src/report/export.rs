//! Placeholder.
use crate::result::RunResult;
/// Kind of report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JUnit
    Junit,
    /// JSON
    Json,
    /// Markdown
    Markdown,
    /// Navigator
    Navigator,
}
/// Renders.
pub fn render(_: Kind, result: &RunResult) -> String {
    super::json(result)
}
