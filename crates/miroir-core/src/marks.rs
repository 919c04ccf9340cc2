//! What a client may say about a request besides what to do: the rules for its keys, and what makes two requests
//! the same one.

use xxhash_rust::xxh3::Xxh3;

/// The longest key or session id, in bytes. They are stored with each task.
const LONGEST: usize = 255;

/// The text of a key or a session id: 1 to 255 visible ASCII characters. `None` for anything else.
pub fn parse_mark(value: &[u8]) -> Option<&str> {
    let is_right = (1..=LONGEST).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    if is_right { std::str::from_utf8(value).ok() } else { None }
}

/// Tells a request from others: by its method, its path, its query and its body, as they were sent.
///
/// A client that sends a request again sends the same bytes; one that sends others has something else in mind.
#[derive(Clone)]
pub struct RequestDigest(Xxh3);

impl RequestDigest {
    /// Begins with what comes before the body.
    pub fn begin(method: &str, path: &str, query: Option<&str>) -> Self {
        let mut hash = Xxh3::new();
        for part in [method, path, query.unwrap_or_default()] {
            // With its length, so that what ends one part cannot be taken for the beginning of the next.
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash)
    }

    /// The digest with the body.
    pub fn finish(mut self, body: &[u8]) -> u128 {
        self.0.update(body);
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_are_short_and_visible() {
        assert_eq!(
            parse_mark(b"8e03978e-40d5-43e8-bc93-6894a57f9324!~"),
            Some("8e03978e-40d5-43e8-bc93-6894a57f9324!~")
        );
        assert!(parse_mark(&[b'x'; 255]).is_some());
        assert_eq!(parse_mark(&[b'x'; 256]), None);
        for wrong in [&b""[..], b"a b", b"a\tb", b"\x7f", "é".as_bytes(), b"\xff"] {
            assert_eq!(parse_mark(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_digest_depends_on_every_part(
            left in ("[A-Z]{0,3}", "[a-c/]{0,3}", proptest::option::of("[a-c=]{1,3}"), "[a-c]{0,3}"),
            right in ("[A-Z]{0,3}", "[a-c/]{0,3}", proptest::option::of("[a-c=]{1,3}"), "[a-c]{0,3}"),
        ) {
            let digest = |request: &(String, String, Option<String>, String)| {
                let (method, path, query, body) = request;
                RequestDigest::begin(method, path, query.as_deref()).finish(body.as_bytes())
            };
            prop_assert_eq!(digest(&left) == digest(&right), left == right);
        }
    }
}
