//! Reads a list in JSON item by item, so that neither a page of the API nor a file is held as a tree.
//!
//! The list is an array, or an array in `value` (Azure's APIs and PowerShell), `data` (Resource Graph) or `records`
//! (Azure Monitor); or a table, `columns` and `rows`, in `data` (Resource Graph) or `tables` (Log Analytics), whose
//! rows become objects.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

/// The content of an answer or file besides the items of its list.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The other fields, such as the link to the next page.
    pub rest: Map<String, Value>,
    /// Whether it has a list.
    pub listed: bool,
}

/// Reads a JSON value and passes each item of its list to `item`.
///
/// # Errors
/// If the value is neither an object nor an array, or cannot be parsed.
pub(super) fn read<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
    item: &mut dyn FnMut(T),
) -> Result<Page, D::Error> {
    from.deserialize_any(Top(item))
}

/// Formats the kind and position of a parser error, whose text may quote the input.
pub(super) fn describe_error(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => return format!("it cannot be read: {error}"),
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "it is neither an object nor an array",
        serde_json::error::Category::Eof => "it ends too early",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

struct Top<'a, T>(&'a mut dyn FnMut(T));

impl<'de, T: DeserializeOwned> Visitor<'de> for Top<'_, T> {
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
        let mut columns: Vec<Column> = vec![];
        while let Some(key) = entries.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "value" | "data" | "records" => {
                    if let Some(nested) = entries.next_value_seed(Nested(self.0))? {
                        page.listed |= nested.listed;
                        if !nested.listed {
                            page.rest.insert(key, nested.rest.into());
                        }
                    } else {
                        page.rest.insert(key, Value::Null);
                    }
                }
                "tables" => page.listed |= entries.next_value_seed(Tables(self.0))?,
                "columns" => columns = entries.next_value()?,
                "rows" if !columns.is_empty() => {
                    entries.next_value_seed(Rows(self.0, &columns))?;
                    page.listed = true;
                }
                _ => drop(page.rest.insert(key, entries.next_value()?)),
            }
        }
        Ok(page)
    }
}

/// A nested list or object; the value is `None` for anything else.
struct Nested<'a, T>(&'a mut dyn FnMut(T));

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Nested<'_, T> {
    type Value = Option<Page>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Page>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Nested<'_, T> {
    type Value = Option<Page>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Option<Page>, A::Error> {
        Top(self.0).visit_seq(items).map(Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Option<Page>, A::Error> {
        Top(self.0).visit_map(entries).map(Some)
    }

    /// An empty list may be written as `null`.
    fn visit_unit<E: de::Error>(self) -> Result<Option<Page>, E> {
        Ok(Some(Page {
            listed: true,
            ..Page::default()
        }))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<Page>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<Page>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<Page>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<Page>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<Page>, E> {
        Ok(None)
    }
}

/// A column of a table.
#[derive(Deserialize)]
struct Column {
    name: String,
}

/// Tables of Log Analytics; returns whether there was one.
struct Tables<'a, T>(&'a mut dyn FnMut(T));

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Tables<'_, T> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Tables<'_, T> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<bool, A::Error> {
        let mut listed = false;
        while let Some(table) = tables.next_element_seed(Nested(self.0))? {
            listed |= table.is_some_and(|page| page.listed);
        }
        Ok(listed)
    }
}

/// Rows of a table, each an array with a value for each column.
struct Rows<'a, T>(&'a mut dyn FnMut(T), &'a [Column]);

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Rows<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Rows<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rows of a table")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Vec<Value>>()? {
            let names = self.1.iter().map(|column| column.name.clone());
            let object = Value::Object(names.zip(row).collect());
            (self.0)(T::deserialize(object).map_err(de::Error::custom)?);
        }
        Ok(())
    }
}
