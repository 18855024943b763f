//! A list in JSON, read item by item, so that neither a page of the API nor a file has to be held as a tree.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

/// What an answer or a file holds beside the items of its list.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Everything else of an object, such as the link to the next page.
    pub rest: Map<String, Value>,
    /// Whether there was a list.
    pub listed: bool,
}

/// Reads one JSON value: an array, or an object with an array in `value` or `data`. Hands over each item.
pub(super) fn read<'de, D: Deserializer<'de>>(
    from: D,
    item: &mut dyn FnMut(Value),
) -> Result<Page, D::Error> {
    from.deserialize_any(Top(item))
}

/// Where an error of the parser is; its own text may quote what it read.
pub(super) fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => return format!("it cannot be read: {error}"),
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "it is neither an object nor an array",
        serde_json::error::Category::Eof => "it ends too early",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

struct Top<'a>(&'a mut dyn FnMut(Value));

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Page, A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(Page {
            listed: true,
            ..Page::default()
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        while let Some(key) = entries.next_key::<String>()? {
            if key == "value" || key == "data" {
                match entries.next_value_seed(List(self.0))? {
                    Some(other) => drop(page.rest.insert(key, other)),
                    None => page.listed = true,
                }
            } else {
                page.rest.insert(key, entries.next_value()?);
            }
        }
        Ok(page)
    }
}

/// What is in `value` or `data`: a list, or another object (Resource Graph has its tables there).
struct List<'a>(&'a mut dyn FnMut(Value));

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Value>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Option<Value>, A::Error> {
        Top(self.0).visit_seq(items).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Option<Value>, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(entries)).map(Some)
    }

    /// An empty list may be written as `null`.
    fn visit_unit<E: de::Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }
}
