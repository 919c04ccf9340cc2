//! The wall clock, in the form Meilisearch writes times.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, as RFC 3339 in UTC.
pub fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

/// The time between two RFC 3339 times as an ISO 8601 duration, as task lists show it.
pub fn duration_between(start: &str, end: &str) -> Option<String> {
    let start = OffsetDateTime::parse(start, &Rfc3339).ok()?;
    let end = OffsetDateTime::parse(end, &Rfc3339).ok()?;
    let seconds = (end - start).as_seconds_f64().max(0.0);
    Some(format!("PT{seconds:.9}S"))
}

/// Whether two RFC 3339 times are the same moment, however they are written.
pub fn is_same_moment(one: &str, other: &str) -> bool {
    let parse = |text| OffsetDateTime::parse(text, &Rfc3339);
    one == other || matches!((parse(one), parse(other)), (Ok(one), Ok(other)) if one == other)
}
