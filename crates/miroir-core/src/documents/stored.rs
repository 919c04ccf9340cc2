//! Documents as nodes give them back: which one it is, and which version of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use crate::hidden::{INSERTED_AT_FIELD, UPDATED_AT_FIELD, decode};
use crate::reconcile::Version;

/// The fields of a document, or some of them.
pub type Fields<'a> = HashMap<String, &'a RawValue>;

/// The id of a document, in the form that shards are told by. `None` when the primary key is not among the fields.
pub fn stored_id(fields: &Fields<'_>, primary_key: &str) -> Option<String> {
    // A nested primary key comes back nested.
    let mut segments = primary_key.split('.');
    let value: Value = match fields.get(primary_key) {
        Some(value) => serde_json::from_str(value.get()).ok()?,
        None => {
            let mut value: Value = serde_json::from_str(fields.get(segments.next()?)?.get()).ok()?;
            for segment in segments {
                value = value.get_mut(segment)?.take();
            }
            value
        }
    };
    match value {
        Value::String(id) => Some(id.trim().to_owned()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// Its place in the order of insertion.
pub fn stored_position(fields: &Fields<'_>) -> Option<u64> {
    hidden_number(fields, INSERTED_AT_FIELD)
}

/// Which version of the document it is. The content is that of the fields given: of only some, when only some were
/// asked for. The order of the fields does not matter; it follows from the order in which a node met their names.
pub fn stored_version(fields: &Fields<'_>) -> Version {
    let sorted: BTreeMap<&String, &&RawValue> = fields.iter().collect();
    let mut canonical = Vec::new();
    for (name, value) in sorted {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(0);
        canonical.extend_from_slice(value.get().as_bytes());
        canonical.push(0);
    }
    Version { write: hidden_number(fields, UPDATED_AT_FIELD), content: xxh3_128(&canonical) }
}

fn hidden_number(fields: &Fields<'_>, name: &str) -> Option<u64> {
    let text: String = serde_json::from_str(fields.get(name)?.get()).ok()?;
    decode(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_document_tells_its_id_and_its_version() {
        let text = r#"{"a":{"id":" x "},"_miroir_inserted_at":"!%","_miroir_updated_at":"!'","n":1.0}"#;
        let fields: Fields<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(stored_id(&fields, "a.id").as_deref(), Some("x"));
        assert_eq!(stored_id(&fields, "n").as_deref(), Some("1.0"));
        assert_eq!(stored_id(&fields, "b"), None);
        assert_eq!((stored_position(&fields), stored_version(&fields).write), (Some(1), Some(2)));

        let other = r#"{"n":1.0,"_miroir_updated_at":"!'","_miroir_inserted_at":"!%","a":{"id":" x "}}"#;
        assert_eq!(stored_version(&serde_json::from_str(other).unwrap()), stored_version(&fields));
        let changed = text.replace("1.0", "2.0");
        assert_ne!(stored_version(&serde_json::from_str(&changed).unwrap()), stored_version(&fields));
        let foreign: Fields<'_> = serde_json::from_str(r#"{"_miroir_updated_at":17}"#).unwrap();
        assert_eq!(stored_version(&foreign).write, None);
    }
}
