//! Walking JSON without building it.
//!
//! Nodes answer with compact JSON of which nearly every byte goes to the client unchanged. A tree of values, or
//! even a list of borrowed ones per nesting level, would read those bytes several times over; a cursor reads them
//! once and hands out slices. It checks structure only as far as it must to find the ends: what it reads was
//! written by a JSON serializer, and anything surprising is an error, never a panic.

use std::borrow::Cow;

use memchr::memchr2;

/// The text is not the JSON that was expected at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node's answer is not the expected json (around byte {at})")]
pub struct Malformed {
    /// Where reading stopped.
    pub at: usize,
}

/// A position in a JSON text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte to read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The bytes read since an offset.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn malformed<T>(&self) -> Result<T, Malformed> {
        Err(Malformed { at: self.at })
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space, without consuming it.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return self.malformed();
        }
        self.at += 1;
        Ok(())
    }

    pub(super) fn begin_object(&mut self) -> Result<(), Malformed> {
        self.expect(b'{')
    }

    pub(super) fn begin_array(&mut self) -> Result<(), Malformed> {
        self.expect(b'[')
    }

    /// The next key of the object being read, raw and without its quotes; its value comes next. `None` at the end.
    pub(super) fn next_key(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') => self.at += 1,
            _ => {}
        }
        if self.peek() != Some(b'"') {
            return self.malformed();
        }
        let start = self.at + 1;
        self.skip_string()?;
        let key = self.bytes.get(start..self.at - 1).unwrap_or_default();
        self.expect(b':')?;
        self.skip_space();
        Ok(Some(key))
    }

    /// Whether the array being read has another element, which comes next.
    pub(super) fn next_element(&mut self) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') => self.at += 1,
            None => return self.malformed(),
            _ => {}
        }
        self.skip_space();
        Ok(true)
    }

    /// Consumes one value of any type and returns its text.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'"') => self.skip_string()?,
            Some(b'{' | b'[') => self.skip_container()?,
            Some(_) => self.skip_scalar(),
            None => return self.malformed(),
        }
        if self.at == start {
            return self.malformed();
        }
        Ok(self.since(start))
    }

    /// From an opening quote to after the closing one.
    fn skip_string(&mut self) -> Result<(), Malformed> {
        let mut at = self.at + 1;
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else { return self.malformed() };
            at += found + 1;
            if rest.get(found) == Some(&b'"') {
                self.at = at;
                return Ok(());
            }
            // Whatever is escaped, the byte after the backslash is no end of the string.
            at += 1;
        }
    }

    fn skip_container(&mut self) -> Result<(), Malformed> {
        let mut depth = 0usize;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.skip_string()?;
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth -= 1,
                Some(_) => {}
                None => return self.malformed(),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn skip_scalar(&mut self) {
        while let Some(byte) = self.bytes.get(self.at) {
            if matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\t' | b'\r') {
                return;
            }
            self.at += 1;
        }
    }
}

/// The text of a raw JSON string given without its quotes.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Owned(String::from_utf8_lossy(raw).into_owned()),
    }
}

/// The inside of a raw JSON string; `None` when the value is of another type.
pub(super) fn string_content(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// A raw JSON number as a float.
pub(super) fn number(raw: &[u8]) -> Option<f64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// A raw JSON number as an unsigned integer.
pub(super) fn unsigned(raw: &[u8]) -> Option<u64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

/// Writes members of an object one after the other, with the commas between them.
pub(super) struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> ObjectWriter<'o> {
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes a key given raw and without quotes; the caller writes the value next, into what this returns.
    pub(super) fn key(&mut self, raw_key: &[u8]) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(raw_key);
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes a member as it was read.
    pub(super) fn member(&mut self, raw_key: &[u8], raw_value: &[u8]) {
        self.key(raw_key).extend_from_slice(raw_value);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends anything serializable as JSON.
pub(super) fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Only strings, numbers and lists of them come here, and writing to memory does not fail.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "[ -~é\\\\\"]{0,8}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::vec(("[a-z\"\\\\]{0,4}", inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_member_is_found_whole(members in prop::collection::vec(("[a-z\"\\\\]{0,4}", any_json()), 0..6)) {
            let object: serde_json::Map<String, serde_json::Value> = members.into_iter().collect();
            for text in [serde_json::to_string(&object).unwrap(), serde_json::to_string_pretty(&object).unwrap()] {
                let mut cursor = Cursor::new(text.as_bytes());
                cursor.begin_object().unwrap();
                let mut read = serde_json::Map::new();
                while let Some(key) = cursor.next_key().unwrap() {
                    let value = serde_json::from_slice(cursor.value().unwrap()).unwrap();
                    read.insert(unescape(key).into_owned(), value);
                }
                prop_assert_eq!(&read, &object);
                prop_assert_eq!(cursor.at(), text.len());
            }
        }

        #[test]
        fn a_truncated_text_is_an_error_and_never_a_panic(value in any_json(), cut in 0usize..64) {
            let text = serde_json::to_string(&serde_json::json!({ "a": [value] })).unwrap();
            let cut = text.floor_char_boundary(text.len().saturating_sub(1 + cut));
            let mut cursor = Cursor::new(&text.as_bytes()[..cut]);
            prop_assert!(cursor.value().is_err());
        }
    }
}
