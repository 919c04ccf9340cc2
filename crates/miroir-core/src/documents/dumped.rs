//! Documents of several nodes as lines of one dump: in the order of insertion, without the hidden fields.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::for_each_field;
use super::strip::write_without_hidden;
use crate::error::ApiError;
use crate::hidden::{INSERTED_AT_FIELD, decode};

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
        write_without_hidden(document, output).map_err(unreadable)?;
        output.push(b'\n');
    }
    Ok(documents.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hidden::encode_position;

    fn page(documents: &[(u64, u64)]) -> Bytes {
        let documents: Vec<String> = documents
            .iter()
            .map(|(id, position)| {
                format!(r#"{{"{INSERTED_AT_FIELD}":"{}","id":{id},"n":1.50}}"#, encode_position(*position))
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
}
