//! Words for people that more than one layer needs.

/// A number of things in words that agree with it: `1 node`, `2 nodes`.
pub fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A text with each of its paragraphs on one line, for whoever wraps it.
pub fn paragraphs(text: &str) -> String {
    let lines = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim()
        .split("\n\n")
        .map(lines)
        .collect::<Vec<_>>()
        .join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!(
            (counted(1, "node"), counted(0, "node")),
            ("1 node".into(), "0 nodes".into())
        );
    }

    #[test]
    fn the_lines_of_a_paragraph_are_joined() {
        assert_eq!(paragraphs("a\n  b\n\nc\nd\n"), "a b\n\nc d");
    }
}
