//! Parses the YAML files of a user, one document each.
//!
//! Mistakes name the field and the location, and avoid the terms of the parser.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Location, Spanned};

use crate::untrusted;

/// A mistake in a file: `steps[2].id: expected ... at line 9, column 3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{}", self.sentence(), self.place())]
pub struct Mistake {
    /// Line number, starting at 1, if known.
    pub line: Option<u64>,
    /// Column number, starting at 1, if known.
    pub column: Option<u64>,
    /// Path of the field, such as `steps[2].id`; empty for the entire file.
    pub field: String,
    /// What was expected, and what was found.
    pub message: String,
}

impl Mistake {
    /// Creates a mistake; invisible characters are escaped.
    pub fn new(field: &str, message: &str, place: Option<(u64, u64)>) -> Self {
        Self {
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            field: untrusted::escaped(field).into_owned(),
            message: untrusted::escaped(message).into_owned(),
        }
    }

    /// Formats the field and the message, without the location.
    pub fn sentence(&self) -> String {
        if self.field.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.field, self.message)
        }
    }

    fn place(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => place((line, column)),
            _ => String::new(),
        }
    }
}

fn place((line, column): (u64, u64)) -> String {
    format!(" at line {line}, column {column}")
}

fn line_and_column(location: &Location) -> (u64, u64) {
    (location.line(), location.column())
}

/// Parses the only document of `text`; returns `None` if it is absent or empty.
///
/// `words` replaces the parser's message of an error.
///
/// # Errors
/// Returns the first syntax error, or the first value that does not match `T`.
pub fn parse<T: DeserializeOwned>(
    text: &str,
    words: impl Fn(&Error) -> Option<&'static str>,
) -> Result<Option<T>, Mistake> {
    let (mut field, mut value) = (String::new(), None);
    let parsed = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        let read = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        });
        value = Some(read?);
        Ok(())
    });
    let Err(error) = parsed else {
        return Ok(value);
    };
    let error = error.without_snippet();
    // The parser counts an empty document after a trailing `---`; this function does not.
    match serde_saphyr::from_multiple::<IgnoredAny>(text).as_deref() {
        Ok([]) => return Ok(None),
        Ok([_]) if matches!(error, Error::MultipleDocuments { .. }) => return Ok(value),
        _ => {}
    }
    let location = error.location().as_ref().map(line_and_column);
    let message = words(error).map_or_else(|| message(error, location), str::to_owned);
    // An unreadable key is "?", and the root is ".".
    let mut field = field.trim_matches(['.', '?']).to_owned();
    if let Error::DuplicateMappingKey { key: Some(key), .. } = error {
        let dot = if field.is_empty() { "" } else { "." };
        field.extend([dot, key]);
    }
    Err(Mistake::new(&field, &message, location))
}

fn message(error: &Error, location: Option<(u64, u64)>) -> String {
    match error {
        Error::DuplicateMappingKey { .. } => "given twice".to_owned(),
        Error::MultipleDocuments { .. } => "expected one document".to_owned(),
        Error::NullIntoString { .. } => "expected a text".to_owned(),
        error => {
            let message = error.to_string();
            let place = location.map(place).unwrap_or_default();
            message.strip_suffix(&place).unwrap_or(&message).to_owned()
        }
    }
}

/// A document with the location of each of its fields.
pub struct Tree(Spanned<Node>);

impl Tree {
    /// Parses the only document of `text`; returns `None` if it is not YAML.
    pub fn parse(text: &str) -> Option<Self> {
        serde_saphyr::from_multiple(text).ok()?.pop().map(Self)
    }

    /// Returns the line and column of a field or, if it is absent, of its nearest ancestor.
    pub fn locate(&self, path: &str) -> (u64, u64) {
        let mut node = &self.0;
        for name in path.split(['.', '[', ']']).filter(|name| !name.is_empty()) {
            let Some((_, below)) = node.value.0.iter().find(|(key, _)| key == name) else {
                break;
            };
            node = below;
        }
        line_and_column(&node.referenced)
    }

    /// Returns the line and column of a line of a field's `value`; `line` starts at 1.
    ///
    /// Returns those of the field if `text`, the source of the tree, does not have the line in the same form.
    pub fn locate_line(&self, text: &str, path: &str, value: &str, line: usize) -> (u64, u64) {
        let field = self.locate(path);
        let find = || {
            // The location of a multi-line text is its first line that is not empty.
            let blank = value.lines().take_while(|line| line.trim().is_empty()).count();
            let wanted = value.lines().nth(line.checked_sub(1)?)?.trim();
            let number = usize::try_from(field.0).ok()? + (line - 1).checked_sub(blank)?;
            let found = text.lines().nth(number - 1)?;
            let indent = found.chars().take_while(|c| c.is_whitespace()).count();
            let place = (u64::try_from(number).ok()?, u64::try_from(indent + 1).ok()?);
            (!wanted.is_empty() && found.trim() == wanted).then_some(place)
        };
        find().unwrap_or(field)
    }
}

/// Any YAML value, with the node of each of its keys or indexes.
struct Node(Vec<(String, Spanned<Node>)>);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Below;
        impl<'de> Visitor<'de> for Below {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut below = vec![];
                while let Some(entry) = map.next_entry()? {
                    below.push(entry);
                }
                Ok(Node(below))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut below = vec![];
                while let Some(item) = items.next_element()? {
                    below.push((below.len().to_string(), item));
                }
                Ok(Node(below))
            }
            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
        }
        deserializer.deserialize_any(Below)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Document = BTreeMap<String, BTreeMap<String, String>>;

    fn read(text: &str) -> Result<Option<Document>, String> {
        parse(text, |_| None).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn empty_documents_do_not_count() {
        for text in ["", "# c\n", "---\n", "---\n---\n", "~", "...\n"] {
            assert_eq!(
                read(text).map(Option::unwrap_or_default),
                Ok(Document::new()),
                "{text:?}"
            );
        }
        let one = read("a: {b: c}").unwrap();
        for text in [
            "---\na: {b: c}\n",
            "# c\n---\na: {b: c}\n...\n",
            "a: {b: c}\n---\n",
            "a: {b: c}\n---",
            "a: {b: c}\r\n---\r\n",
            "a: {b: c}\n---\n# c\n---\n",
            "a: {b: c}\n---\n~\n",
        ] {
            assert_eq!(read(text).as_ref(), Ok(&one), "{text:?}");
        }
    }

    #[test]
    fn mistakes_name_the_field_and_the_place() {
        for (text, mistake) in [
            ("a: {}\n---\nb: {}\n", "expected one document at line 3, column 1"),
            ("a: {}\n---\nb: [\n", "expected one document at line 3, column 1"),
            ("---\n---\na: {}\n", "expected mapping start at line 1, column 4"),
            ("a: {}\na: {}\n", "a: given twice at line 2, column 1"),
            ("a:\n  b: c\n  b: d\n", "a.b: given twice at line 3, column 3"),
            ("a: {1: c, 0x1: d}\n", "a.0x1: given twice at line 1, column 11"),
            ("a: {b: }\n", "a.b: expected a text at line 1, column 6"),
            ("a: x\n", "a: expected mapping start at line 1, column 4"),
            ("a: {b: [\n", "a.b: expected string scalar at line 1, column 8"),
            (
                "\"a\\e\": x\n",
                "a<U+001B>: expected mapping start at line 1, column 8",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), mistake, "{text:?}");
        }
    }

    #[test]
    fn places_are_those_of_the_field_or_of_the_nearest_one_above() {
        let text = "a:\n- b: 1\n  c: {d: x}\n---\n";
        let tree = Tree::parse(text).unwrap();
        for (path, place) in [
            ("", (1, 1)),
            ("a", (2, 3)),
            ("a[0].b", (2, 6)),
            ("a[0].c.d", (3, 10)),
            ("a[0].c.e", (3, 6)),
            ("a[1].b", (2, 3)),
        ] {
            assert_eq!(tree.locate(path), place, "{path}");
        }
    }

    #[test]
    fn lines_of_a_text_are_found_where_they_stand() {
        for (text, line, place) in [
            ("a: |\n  one\n\n  two\n", 3, (4, 3)),
            ("a: |-\n\n\n    one\n      two\n", 4, (5, 7)),
            ("a: |\n  one\n  two\n", 3, (2, 3)),
            ("a: |\n  one\n  two\n", 0, (2, 3)),
            ("a: \"one\\ntwo\"\n", 2, (1, 4)),
            ("a: >\n  one\n  more\n\n  two\n", 2, (2, 3)),
            ("a: one\n", 1, (1, 4)),
        ] {
            let tree = Tree::parse(text).unwrap();
            let value: BTreeMap<String, String> = parse(text, |_| None).unwrap().unwrap();
            assert_eq!(tree.locate_line(text, "a", &value["a"], line), place, "{text:?}");
        }
    }
}
