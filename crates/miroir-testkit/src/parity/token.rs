//! Tenant tokens for the sequences.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;

/// A token with these claims, signed with a key.
pub fn make(algorithm: &str, key: &str, claims: &Value) -> String {
    let algorithm = match algorithm {
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        other => panic!("no algorithm of tenant tokens: {other}"),
    };
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key.as_bytes()))
        .expect("claims are JSON")
}
