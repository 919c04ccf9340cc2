//! Taking the hidden fields out of a document, leaving every other byte's meaning as it is.

use serde_json::value::RawValue;

use crate::hidden;

use super::json::for_each_field;

/// A JSON object without its top-level hidden fields.
pub fn strip_hidden_fields(document: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    // Checked to be UTF-8 by the parser before it is used as text.
    let text: &RawValue = serde_json::from_slice(document)?;
    let mut output = Vec::with_capacity(document.len());
    write_without_hidden(text.get(), &mut output)?;
    Ok(output)
}

/// Appends a JSON object without its top-level hidden fields. Values are copied as they are.
pub(super) fn write_without_hidden(document: &str, output: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    write_fields(document, output, |name, _| !hidden::is_reserved(name))
}

/// Appends a JSON object with those of its top-level fields that are to be kept. Values are copied as they are.
pub(super) fn write_fields(
    document: &str,
    output: &mut Vec<u8>,
    is_kept: impl Fn(&str, &RawValue) -> bool,
) -> Result<(), serde_json::Error> {
    output.push(b'{');
    let start = output.len();
    let mut failure = None;
    for_each_field(document, |name, value| {
        if failure.is_some() || !is_kept(name, value) {
            return;
        }
        if output.len() > start {
            output.push(b',');
        }
        if let Err(error) = serde_json::to_writer(&mut *output, name) {
            failure = Some(error);
            return;
        }
        output.push(b':');
        output.extend_from_slice(value.get().as_bytes());
    })?;
    output.push(b'}');
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_fields_go_and_the_rest_stays() {
        for (document, expected) in [
            (
                r#"{"_miroir_shard":"!","id":1,"n":1.50e2,"_miroir_inserted_at":"!"}"#,
                r#"{"id":1,"n":1.50e2}"#,
            ),
            (
                r#"{ "a" : {"_miroir_shard":1} , "\"é\\" : [ 1 ] }"#,
                r#"{"a":{"_miroir_shard":1},"\"é\\":[ 1 ]}"#,
            ),
            (r#"{"_miroir_shard":"!"}"#, "{}"),
            ("{}", "{}"),
        ] {
            assert_eq!(strip_hidden_fields(document.as_bytes()).unwrap(), expected.as_bytes());
        }
        assert!(strip_hidden_fields(b"[1]").is_err());
    }
}
