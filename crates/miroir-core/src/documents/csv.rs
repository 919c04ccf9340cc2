//! Turning CSV into NDJSON, as Meilisearch types it.
//!
//! A header `name:number` or `name:boolean` types its column, `name:string` and anything else leave text.
//! Empty cells are null. A column named twice counts once, with the value of the last one.

use csv::{ReaderBuilder, StringRecord};
use serde_json::Value;

use crate::error::ApiError;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnType {
    Text,
    Boolean,
    Number,
}

/// A field of the documents: how its name is written in JSON, and which column it is read from.
struct Field {
    name: String,
    name_in_json: String,
    column: usize,
}

/// The documents of a CSV body, one JSON object per line.
pub(super) fn to_ndjson(body: &[u8], delimiter: u8) -> Result<Vec<u8>, ApiError> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(body);
    let headers = reader.headers().map_err(|error| malformed(&error.to_string()))?.clone();
    let (fields, types) = read_headers(&headers);
    // Every cell gets quotes and its column's name: a first guess, to spare most reallocations.
    let mut output = Vec::with_capacity(body.len().saturating_mul(2));
    let mut record = StringRecord::new();
    let mut cells = vec![Value::Null; types.len()];
    let mut record_number = 0u64;
    while reader.read_record(&mut record).map_err(|error| malformed(&error.to_string()))? {
        record_number += 1;
        // Every column is judged, even one that another of the same name hides.
        for ((cell, column_type), text) in cells.iter_mut().zip(&types).zip(&record) {
            *cell = read_cell(text, *column_type, record_number)?;
        }
        output.push(b'{');
        for (rank, field) in fields.iter().enumerate() {
            if rank > 0 {
                output.push(b',');
            }
            output.extend_from_slice(field.name_in_json.as_bytes());
            output.push(b':');
            let cell = cells.get(field.column).unwrap_or(&Value::Null);
            serde_json::to_writer(&mut output, cell)
                .map_err(|error| ApiError::internal(error.to_string()))?;
        }
        output.extend_from_slice(b"}\n");
    }
    Ok(output)
}

/// The fields, in order of first appearance, and the type of every column.
fn read_headers(headers: &StringRecord) -> (Vec<Field>, Vec<ColumnType>) {
    let mut fields: Vec<Field> = Vec::new();
    let mut types = Vec::with_capacity(headers.len());
    for (column, header) in headers.iter().enumerate() {
        let (name, column_type) = read_header(header);
        types.push(column_type);
        match fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.column = column,
            None => fields.push(Field {
                name: name.to_owned(),
                name_in_json: Value::from(name).to_string(),
                column,
            }),
        }
    }
    (fields, types)
}

/// Only the last colon counts, and only before a known type.
fn read_header(header: &str) -> (&str, ColumnType) {
    match header.rsplit_once(':') {
        Some((name, "string")) => (name, ColumnType::Text),
        Some((name, "boolean")) => (name, ColumnType::Boolean),
        Some((name, "number")) => (name, ColumnType::Number),
        _ => (header, ColumnType::Text),
    }
}

fn read_cell(text: &str, column_type: ColumnType, record_number: u64) -> Result<Value, ApiError> {
    let trimmed = text.trim();
    match column_type {
        ColumnType::Text if text.is_empty() => Ok(Value::Null),
        ColumnType::Text => Ok(Value::from(text)),
        ColumnType::Boolean | ColumnType::Number if trimmed.is_empty() => Ok(Value::Null),
        ColumnType::Boolean => trimmed.parse::<bool>().map(Value::from).map_err(|error| {
            malformed(&format!("Error parsing boolean {text:?} at line {record_number}: {error}"))
        }),
        ColumnType::Number => match trimmed.parse::<i64>() {
            Ok(integer) => Ok(Value::from(integer)),
            // `NaN` and `inf` are numbers here, and null once in JSON.
            Err(_) => trimmed.parse::<f64>().map(Value::from).map_err(|error| {
                malformed(&format!("Error parsing number {text:?} at line {record_number}: {error}"))
            }),
        },
    }
}

fn malformed(reason: &str) -> ApiError {
    ApiError::bad_request(
        "malformed_payload",
        format!("The `csv` payload provided is malformed: `{reason}`."),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn documents(body: &str) -> Vec<Value> {
        let ndjson = to_ndjson(body.as_bytes(), b',').unwrap();
        serde_json::Deserializer::from_slice(&ndjson).into_iter().collect::<Result<_, _>>().unwrap()
    }

    /// Each expectation is what a Meilisearch 1.21 stored from the same body.
    #[test]
    fn cells_are_typed_by_their_header() {
        for (body, expected) in [
            ("id,a\n1,2\n", json!([{"id": "1", "a": "2"}])),
            (
                "id:number,a:boolean,b:string,c:foo\n1,true,x,y\n",
                json!([{"id": 1, "a": true, "b": "x", "c:foo": "y"}]),
            ),
            ("id,b:boolean\n1, true \n2,\n", json!([{"id": "1", "b": true}, {"id": "2", "b": null}])),
            ("id,s\n1,\n2,\" \"\n", json!([{"id": "1", "s": null}, {"id": "2", "s": " "}])),
            (
                "n:number\n1e5\nNaN\ninf\n9223372036854775807\n007\n +5 \n\" \"\n",
                json!([{"n": 100000.0}, {"n": null}, {"n": null}, {"n": 9223372036854775807i64}, {"n": 7}, {"n": 5}, {"n": null}]),
            ),
            ("id,a:number,a\n1,2,x\n", json!([{"id": "1", "a": "x"}])),
            ("id,a\n1,\"x\n\"\"y\"\n", json!([{"id": "1", "a": "x\n\"y"}])),
            ("\u{feff}id,a\r\n\r\n1,2\r\n", json!([{"id": "1", "a": "2"}])),
            ("id,a:b:number\n1,5\n", json!([{"id": "1", "a:b": 5}])),
            ("id,\n1, 2\n", json!([{"id": "1", "": " 2"}])),
            ("id", json!([])),
            (" ", json!([])),
        ] {
            assert_eq!(Value::from(documents(body)), expected, "{body}");
        }
        let semicolons = to_ndjson(b"id;a\n1;x,y\n", b';').unwrap();
        assert_eq!(semicolons, b"{\"id\":\"1\",\"a\":\"x,y\"}\n");
    }

    /// The messages are those of a Meilisearch 1.21.
    #[test]
    fn wrong_cells_and_records_are_refused() {
        for (body, reason) in [
            (
                "id,n:number\n1,\n2, 3 \n3,abc\n",
                "Error parsing number \"abc\" at line 3: invalid float literal",
            ),
            (
                "id,b:boolean\n1,True\n",
                "Error parsing boolean \"True\" at line 1: provided string was not `true` or `false`",
            ),
            ("id,n:number,n\n1,abc,2\n", "Error parsing number \"abc\" at line 1: invalid float literal"),
            (
                "id,a\n1\n",
                "CSV error: record 1 (line: 2, byte: 5): found record with 1 fields, but the previous record has 2 fields",
            ),
        ] {
            let error = to_ndjson(body.as_bytes(), b',').unwrap_err();
            assert_eq!((error.status, error.code.as_ref()), (400, "malformed_payload"));
            assert_eq!(error.message, format!("The `csv` payload provided is malformed: `{reason}`."));
        }
        let error = to_ndjson(b"id,a\n1,\xff\n", b',').unwrap_err();
        assert!(error.message.contains("invalid utf-8: invalid UTF-8 in field 1 near byte index 0"));
    }

    proptest! {
        #[test]
        fn what_is_written_as_csv_is_read_back(rows in prop::collection::vec((any::<i64>(), any::<bool>(), "\\PC{1,8}"), 0..20)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["n:number", "b:boolean", "t"]).unwrap();
            for (number, boolean, text) in &rows {
                writer.write_record([&number.to_string(), &boolean.to_string(), text]).unwrap();
            }
            let body = writer.into_inner().unwrap();
            let expected: Vec<Value> =
                rows.into_iter().map(|(n, b, t)| json!({"n": n, "b": b, "t": t})).collect();
            prop_assert_eq!(documents(std::str::from_utf8(&body).unwrap()), expected);
        }
    }
}
