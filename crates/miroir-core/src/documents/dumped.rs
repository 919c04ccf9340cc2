//! Documents of several nodes as lines of one dump: in the order of insertion, without the hidden fields.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::for_each_field;
use super::strip::write_fields;
use crate::error::ApiError;
use crate::hidden::{INSERTED_AT_FIELD, decode, is_reserved};

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

/// Appends the documents of these pages, one per line, and returns how many there were. Nodes answer without line
/// ends between the parts of a document.
pub fn append_in_order(pages: &[Bytes], output: &mut Vec<u8>) -> Result<u64, ApiError> {
    let unreadable = |error: serde_json::Error| {
        ApiError::internal(format!("A node answered documents that cannot be read: {error}."))
    };
    let mut documents: Vec<(u64, &str)> = Vec::new();
    for page in pages {
        let page: Page<'_> = serde_json::from_slice(page).map_err(unreadable)?;
        for document in page.results {
            let mut position = None;
            for_each_field(document.get(), |name, value| {
                if name == INSERTED_AT_FIELD {
                    position =
                        serde_json::from_str::<String>(value.get()).ok().and_then(|text| decode(&text));
                }
            })
            .map_err(unreadable)?;
            documents.push((position.unwrap_or(u64::MAX), document.get()));
        }
    }
    documents.sort_by_key(|(position, _)| *position);
    for (_, document) in &documents {
        write_fields(document, output, is_dumped).map_err(unreadable)?;
        output.push(b'\n');
    }
    Ok(documents.len() as u64)
}

/// A node that is asked for vectors shows an empty `_vectors` where there are none, and a dump has nothing there.
fn is_dumped(name: &str, value: &RawValue) -> bool {
    !is_reserved(name) && (name != "_vectors" || value.get() != "{}")
}

/// The first field of a document whose name is Miroir's own. Fails when it is no JSON object.
pub fn reserved_name(document: &[u8]) -> Result<Option<String>, serde_json::Error> {
    // Checked to be UTF-8 by the parser before it is used as text.
    let text: &RawValue = serde_json::from_slice(document)?;
    let mut found = None;
    for_each_field(text.get(), |name, _| {
        if found.is_none() && is_reserved(name) {
            found = Some(name.to_owned());
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hidden::encode_position;

    fn page(documents: &[(u64, u64)]) -> Bytes {
        let documents: Vec<String> = documents
            .iter()
            .map(|(id, position)| {
                format!(
                    r#"{{"{INSERTED_AT_FIELD}":"{}","id":{id},"n":1.50,"_vectors":{{}}}}"#,
                    encode_position(*position)
                )
            })
            .collect();
        format!(r#"{{"results":[{}],"offset":0}}"#, documents.join(",")).into()
    }

    #[test]
    fn pages_become_lines_in_the_order_of_insertion() {
        let mut lines = b"before\n".to_vec();
        let count = append_in_order(&[page(&[(1, 700), (2, 4)]), page(&[(3, 16)])], &mut lines).unwrap();
        assert_eq!(count, 3);
        let expected = "before\n{\"id\":2,\"n\":1.50}\n{\"id\":3,\"n\":1.50}\n{\"id\":1,\"n\":1.50}\n";
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
        assert!(append_in_order(&[Bytes::from_static(b"{}")], &mut Vec::new()).is_err());
    }

    #[test]
    fn a_reserved_name_is_found_however_it_is_written() {
        let found = |document: &str| reserved_name(document.as_bytes());
        assert_eq!(found(r#"{"id":1,"t":{"_miroir_shard":1}}"#).unwrap(), None);
        assert_eq!(found(r#"{"id":1,"\u005fmiroir_shard":1}"#).unwrap().as_deref(), Some("_miroir_shard"));
        for wrong in ["", "[1]", "{\"id\":1", "{\"id\":tru}", "{\"id\":1} {}"] {
            assert!(found(wrong).is_err(), "{wrong}");
        }
    }
}
