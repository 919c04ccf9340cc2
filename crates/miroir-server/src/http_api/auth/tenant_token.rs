//! Tenant tokens: JSON Web Tokens that a client makes from a search key, with rules of its own that narrow it.

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use miroir_core::access::{SearchRules, invalid_key};
use miroir_core::error::ApiError;
use serde::Deserialize;
use uuid::Uuid;

use crate::keys::Keys;

/// What a token says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    search_rules: SearchRules,
    exp: Option<i64>,
    api_key_uid: Uuid,
}

/// The uid of the key that a token was made from, and its rules; `None` when it is no token at all, but perhaps a key.
/// `now` is in seconds since 1970.
pub fn read(keys: &Keys, token: &str, now: i64) -> Result<Option<(String, SearchRules)>, ApiError> {
    // The key is named in what is not to be believed yet.
    let mut unsigned = validation();
    unsigned.insecure_disable_signature_validation();
    let named = decode::<Claims>(token, &DecodingKey::from_secret(&[]), &unsigned);
    let Some(named) = unless_no_token(named.map(|data| data.claims))? else { return Ok(None) };
    let uid = named.api_key_uid.to_string();
    let Some(secret) = keys.secret_of(&uid) else { return Ok(None) };
    let signed = decode::<Claims>(token, &DecodingKey::from_secret(secret.as_bytes()), &validation());
    let Some(claims) = unless_no_token(signed.map(|data| data.claims))? else { return Ok(None) };
    match claims.exp {
        Some(exp) if now > exp => {
            Err(invalid_key(format!("Tenant token expired. Was valid up to `{exp}` and we're now `{now}`.")))
        }
        _ => Ok(Some((uid, claims.search_rules))),
    }
}

/// The algorithms that Meilisearch takes. Expiry is looked at by itself, because it need not be there.
fn validation() -> Validation {
    let mut validation = Validation::default();
    validation.validate_exp = false;
    validation.required_spec_claims.remove("exp");
    validation.algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    validation
}

fn unless_no_token(claims: Result<Claims, Error>) -> Result<Option<Claims>, ApiError> {
    match claims {
        Ok(claims) => Ok(Some(claims)),
        Err(error) => match error.kind() {
            ErrorKind::InvalidToken => Ok(None),
            _ => Err(invalid_key(format!("Could not decode tenant token, {error}."))),
        },
    }
}
