//! Between the model's values and SQLite's columns: JSON as text, times as nanoseconds, `u64` as `i64`.
//!
//! Times are kept as numbers because RFC 3339 text does not sort as time does: the number of decimals varies.

use miroir_core::replica::ReplicaState;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::failure::damaged;
use crate::StoreError;

pub(super) fn to_column(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Invalid(format!("number too large: {number}")))
}

pub(super) fn from_column(number: i64) -> rusqlite::Result<u64> {
    u64::try_from(number).map_err(damaged)
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Invalid(error.to_string()))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(damaged)
}

pub(super) fn to_nanoseconds(rfc3339: &str) -> Result<i64, StoreError> {
    i64::try_from(parse_time(rfc3339)?).map_err(|_| not_a_time(rfc3339))
}

/// The same for a limit that stored times are compared with: none of them is further away than a column can say.
pub(super) fn to_nanoseconds_at_most(rfc3339: &str) -> Result<i64, StoreError> {
    let time = parse_time(rfc3339)?.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(time).map_err(|_| not_a_time(rfc3339))
}

fn parse_time(rfc3339: &str) -> Result<i128, StoreError> {
    let time = OffsetDateTime::parse(rfc3339, &Rfc3339).map_err(|_| not_a_time(rfc3339))?;
    Ok(time.unix_timestamp_nanos())
}

fn not_a_time(text: &str) -> StoreError {
    StoreError::Invalid(format!("not an RFC 3339 time: {text}"))
}

pub(super) fn to_rfc3339(nanoseconds: i64) -> rusqlite::Result<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds)).map_err(damaged)?;
    time.format(&Rfc3339).map_err(damaged)
}

pub(super) fn state_name(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Active => "active",
        ReplicaState::Stale => "stale",
        ReplicaState::Joining => "joining",
        ReplicaState::Leaving => "leaving",
    }
}

pub(super) fn state_from_name(name: &str) -> rusqlite::Result<ReplicaState> {
    [ReplicaState::Active, ReplicaState::Stale, ReplicaState::Joining, ReplicaState::Leaving]
        .into_iter()
        .find(|state| state_name(*state) == name)
        .ok_or_else(|| damaged(name))
}
