//! An item of a list of alerts, read without the parts that nothing uses.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// An item without the remediation steps of an alert, which are most of a saved list.
#[derive(Clone, Debug, PartialEq)]
pub struct Item(pub Value);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Item, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key.eq_ignore_ascii_case("properties") {
                let Item(properties) = entries.next_value()?;
                object.insert(key, properties);
            } else if key.eq_ignore_ascii_case("remediationSteps") {
                entries.next_value::<IgnoredAny>()?;
            } else {
                object.insert(key, entries.next_value()?);
            }
        }
        Ok(Item(object.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        let mut array = vec![];
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Item(Value::Array(array)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Item, E> {
        Ok(Item(text.into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Item, E> {
        Ok(Item(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Item, E> {
        Ok(Item(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Item, E> {
        Ok(Item(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Item, E> {
        Ok(Item(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Item, E> {
        Ok(Item(Value::Null))
    }
}
