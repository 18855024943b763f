//! Wording shared by several layers.

use std::io;

/// Formats a number of things with the matching singular or plural: `1 node`, `2 nodes`.
pub fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Joins each paragraph of a text into one line, for callers that wrap it.
pub fn paragraphs(text: &str) -> String {
    let lines = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim()
        .split("\n\n")
        .map(lines)
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// Formats the first few names and the number of the others: `a, b and 3 more`.
pub fn first_few(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 5;
    let (shown, more) = names.split_at(names.len().min(SHOWN));
    let shown: Vec<&str> = shown.iter().map(AsRef::as_ref).collect();
    match more.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Formats the cause of an operating system error as messages quote it: `no space left on device`.
///
/// Removes the error number that the standard library adds, and the name of a temporary file.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let end = [" at path \"", " (os error "]
        .iter()
        .filter_map(|end| text.find(end))
        .min();
    let mut text = text[..end.unwrap_or(text.len())].to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
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

    #[test]
    fn long_lists_are_cut() {
        let names = ["1", "2", "3", "4", "5", "6", "7"];
        assert_eq!(first_few(&names), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(first_few(&names[..5]), "1, 2, 3, 4, 5");
        assert_eq!(first_few(&names[..0]), "");
    }

    #[test]
    fn cause_is_without_number_and_temporary_file() {
        for (error, expected) in [
            (io::Error::from_raw_os_error(2), "no such file or directory"),
            (io::Error::other("Too far at path \"/tmp/x\""), "too far"),
            (io::ErrorKind::IsADirectory.into(), "is a directory"),
            (io::Error::other(""), ""),
        ] {
            assert_eq!(cause(&error), expected);
        }
    }
}
