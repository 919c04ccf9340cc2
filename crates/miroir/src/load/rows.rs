//! Cutting a file into batches of documents, without ever holding more than a batch.
//!
//! Documents are passed on as they are written: nothing is parsed but where each ends, so numbers keep all
//! their digits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::rc::Rc;

use serde::de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{BATCH_BYTES, Batch, Format};
use crate::failure::Failure;

/// Takes a full batch; an error ends the reading.
type Sink<'a> = &'a mut dyn FnMut(Batch) -> Result<(), Failure>;

/// Reads all documents of `source`, in batches of at most `batch_size`.
pub(super) fn read(
    source: impl Read,
    format: Format,
    number_rows: bool,
    batch_size: u64,
    sink: Sink<'_>,
) -> Result<(), Failure> {
    let read = Rc::new(RefCell::new(0));
    let source = BufReader::with_capacity(1 << 18, Counting { inner: source, read: Rc::clone(&read) });
    let batches =
        Batches { header: Vec::new(), batch: Batch::default(), batch_size, rows: 0, number_rows, read, sink };
    match format {
        Format::Json => read_array(source, batches),
        Format::Ndjson => read_lines(source, batches),
        Format::Csv => read_csv(source, batches),
    }
}

/// Counts the bytes taken from the file, for the progress bar.
struct Counting<R> {
    inner: R,
    read: Rc<RefCell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        *self.read.borrow_mut() += count as u64;
        Ok(count)
    }
}

/// The batch being filled.
struct Batches<'a> {
    /// What each batch starts with: the names of CSV columns.
    header: Vec<u8>,
    batch: Batch,
    batch_size: u64,
    rows: u64,
    number_rows: bool,
    read: Rc<RefCell<u64>>,
    sink: Sink<'a>,
}

impl Batches<'_> {
    /// Adds a line, whose document is complete.
    fn push(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.batch.body.is_empty() {
            self.batch.body.extend_from_slice(&self.header);
        }
        self.batch.body.extend_from_slice(line);
        self.batch.body.push(b'\n');
        self.batch.documents += 1;
        if self.batch.documents >= self.batch_size || self.batch.body.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds a JSON object, numbered when asked for.
    fn push_object(&mut self, text: &str) -> Result<(), Failure> {
        self.rows += 1;
        let text = text.trim();
        if !text.starts_with('{') {
            return Err(Failure::new(format!("document {} is not an object", self.rows)));
        }
        // A document that spans lines must become one line; line ends inside strings are always escaped.
        let line: Vec<u8> =
            text.bytes().map(|byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }).collect();
        if !self.number_rows {
            return self.push(&line);
        }
        let fields: HashMap<String, IgnoredAny> = serde_json::from_str(text)
            .map_err(|error| Failure::new(format!("document {}: {error}", self.rows)))?;
        if fields.contains_key("id") {
            return Err(Failure::new(format!(
                "document {} has an id already; leave out --number-rows",
                self.rows
            )));
        }
        let comma = if fields.is_empty() { "" } else { "," };
        let mut numbered = format!("{{\"id\":{}{comma}", self.rows).into_bytes();
        numbered.extend_from_slice(line.get(1..).unwrap_or_default());
        self.push(&numbered)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.documents == 0 {
            return Ok(());
        }
        self.batch.read = *self.read.borrow();
        (self.sink)(std::mem::take(&mut self.batch))
    }
}

/// An array, element by element.
fn read_array(source: impl Read, mut batches: Batches<'_>) -> Result<(), Failure> {
    struct Elements<'a, 'b> {
        batches: &'a mut Batches<'b>,
        failure: &'a mut Option<Failure>,
    }
    impl<'de> Visitor<'de> for Elements<'_, '_> {
        type Value = ();

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an array of objects (for one object per line, add --format ndjson)")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
            while let Some(element) = elements.next_element::<Box<RawValue>>()? {
                if let Err(failure) = self.batches.push_object(element.get()) {
                    *self.failure = Some(failure);
                    return Err(de::Error::custom("a document was refused"));
                }
            }
            Ok(())
        }
    }
    let mut failure = None;
    let mut deserializer = serde_json::Deserializer::from_reader(source);
    let outcome = deserializer
        .deserialize_seq(Elements { batches: &mut batches, failure: &mut failure })
        .and_then(|()| deserializer.end());
    if let Some(failure) = failure {
        return Err(failure);
    }
    outcome.map_err(|error| Failure::new(error.to_string()))?;
    batches.flush()
}

fn read_lines(source: impl BufRead, mut batches: Batches<'_>) -> Result<(), Failure> {
    for (number, line) in source.lines().enumerate() {
        let line = line.map_err(|error| Failure::new(format!("line {}: {error}", number + 1)))?;
        if !line.trim().is_empty() {
            batches
                .push_object(&line)
                .map_err(|failure| Failure::new(format!("line {}: {failure}", number + 1)))?;
        }
    }
    batches.flush()
}

fn read_csv(source: impl Read, mut batches: Batches<'_>) -> Result<(), Failure> {
    let explain = |error: csv::Error| Failure::new(error.to_string());
    let mut reader = csv::Reader::from_reader(source);
    let mut names = reader.byte_headers().map_err(explain)?.clone();
    let number_rows = batches.number_rows;
    if number_rows {
        if names.iter().any(|name| name == b"id" || name.starts_with(b"id:")) {
            return Err(Failure::new("the documents have an id already; leave out --number-rows"));
        }
        // The type makes it a number, as in the other formats.
        names.push_field(b"id:number");
    }
    batches.header = csv_line(&names)?;
    batches.header.push(b'\n');
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(explain)? {
        batches.rows += 1;
        if number_rows {
            record.push_field(batches.rows.to_string().as_bytes());
        }
        batches.push(&csv_line(&record)?)?;
    }
    batches.flush()
}

/// A record as a line without its end.
fn csv_line(record: &csv::ByteRecord) -> Result<Vec<u8>, Failure> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    writer.write_byte_record(record).map_err(|error| Failure::new(error.to_string()))?;
    let mut line = writer.into_inner().map_err(|error| Failure::new(error.to_string()))?;
    line.truncate(line.len().saturating_sub(1));
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches_of(
        text: &str,
        format: Format,
        number_rows: bool,
        size: u64,
    ) -> Result<Vec<(String, u64)>, String> {
        let mut batches = Vec::new();
        read(text.as_bytes(), format, number_rows, size, &mut |batch| {
            batches.push((String::from_utf8(batch.body).unwrap(), batch.documents));
            Ok(())
        })
        .map_err(|failure| failure.to_string())?;
        Ok(batches)
    }

    fn expected(batches: &[(&str, u64)]) -> Result<Vec<(String, u64)>, String> {
        Ok(batches.iter().map(|(body, count)| (body.to_string(), *count)).collect())
    }

    #[test]
    fn an_array_becomes_lines_that_keep_every_digit() {
        let text = "[ {\"a\": 1.000000000000000000001,\n \"b\":\"x\\ny\"} , {}, {\"c\":[{}]}\n]";
        assert_eq!(
            batches_of(text, Format::Json, false, 2),
            expected(&[
                ("{\"a\": 1.000000000000000000001,  \"b\":\"x\\ny\"}\n{}\n", 2),
                ("{\"c\":[{}]}\n", 1)
            ])
        );
    }

    #[test]
    fn rows_are_numbered_across_batches() {
        assert_eq!(
            batches_of(r#"[{"a":1},{},{"b":2}]"#, Format::Json, true, 2),
            expected(&[("{\"id\":1,\"a\":1}\n{\"id\":2}\n", 2), ("{\"id\":3,\"b\":2}\n", 1)])
        );
        assert_eq!(
            batches_of("{\"a\":1}\n\n{\"a\":2}", Format::Ndjson, true, 9),
            expected(&[("{\"id\":1,\"a\":1}\n{\"id\":2,\"a\":2}\n", 2)])
        );
    }

    #[test]
    fn every_csv_batch_starts_with_the_names() {
        let text = "name,price:number\n\"a, \"\"b\"\"\",1\nc,2\n\"two\nlines\",3\n";
        assert_eq!(
            batches_of(text, Format::Csv, true, 2),
            expected(&[
                ("name,price:number,id:number\n\"a, \"\"b\"\"\",1,1\nc,2,2\n", 2),
                ("name,price:number,id:number\n\"two\nlines\",3,3\n", 1)
            ])
        );
    }

    #[test]
    fn what_cannot_be_read_is_explained() {
        let cases = [
            ("{}", Format::Json, "an array of objects"),
            ("[{}, 3]", Format::Json, "document 2 is not an object"),
            ("[{}", Format::Json, "EOF"),
            ("[{}] x", Format::Json, "trailing"),
            ("{}\n[]", Format::Ndjson, "line 2: document 2 is not an object"),
            ("{\"id\":1}", Format::Ndjson, "leave out --number-rows"),
            ("id:string,a\n1,2", Format::Csv, "leave out --number-rows"),
            ("a,b\n1", Format::Csv, "found record with 1 fields"),
        ];
        for (text, format, explanation) in cases {
            let message = batches_of(text, format, true, 10).unwrap_err();
            assert!(message.contains(explanation), "{text}: {message}");
        }
    }
}
