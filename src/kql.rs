//! Literals of the Kusto Query Language (KQL), in which text from a record or an argument becomes part of a query.

/// Quotes a text as a string literal on one line.
///
/// KQL escapes quotes, backslashes, tabs and line breaks in double quotes like JSON.
///
/// ```
/// # use defender_sim::kql::quoted;
/// assert_eq!(quoted("a\" or 1==1 // \\\n| x"), r#""a\" or 1==1 // \\\n| x""#);
/// ```
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Formats a time as a literal, in seconds.
pub fn datetime(time: jiff::Timestamp) -> String {
    format!("datetime({time:.0})")
}
