//! The parameters of `/tasks` and `/batches`: a query string becomes a [`TaskQuery`], read as Meilisearch reads it.
//!
//! What it would refuse is only told from what it would take; the words of the refusal are a node's own.

use miroir_store::{TaskQuery, TaskStatus};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, Time};

use super::parameters;

/// Kinds of tasks that Meilisearch knows; asking for another is an error there.
const KINDS: [&str; 14] = [
    "documentAdditionOrUpdate",
    "documentEdition",
    "documentDeletion",
    "settingsUpdate",
    "indexCreation",
    "indexDeletion",
    "indexUpdate",
    "indexSwap",
    "taskCancelation",
    "taskDeletion",
    "dumpCreation",
    "snapshotCreation",
    "export",
    "upgradeDatabase",
];
const STATUSES: [TaskStatus; 5] = [
    TaskStatus::Enqueued,
    TaskStatus::Processing,
    TaskStatus::Succeeded,
    TaskStatus::Failed,
    TaskStatus::Canceled,
];
const DEFAULT_LIMIT: u32 = 20;
/// The longest uid of an index that a filter may name.
const LONGEST_INDEX_UID: usize = 400;
const BEFORE_EVERYTHING: &str = "0000-01-01T00:00:00Z";

/// Something that Meilisearch refuses.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// What a list is asked for.
#[derive(Debug, PartialEq)]
pub struct ListRequest {
    /// The filters and the page.
    pub query: TaskQuery,
    /// The length of the page, as it is shown.
    pub limit: u32,
}

/// Reads the filters and the page of a list.
pub fn parse_list(query: Option<&str>) -> Result<ListRequest, Malformed> {
    let mut list = ListRequest { query: TaskQuery::default(), limit: DEFAULT_LIMIT };
    for (name, value) in parameters(query) {
        match name.as_str() {
            "limit" => list.limit = number(&value).ok_or(Malformed)?,
            "from" => list.query.from = Some(number(&value).ok_or(Malformed)?.into()),
            "reverse" => list.query.reverse = value.parse().map_err(|_| Malformed)?,
            _ => read_filter(&mut list.query, &name, &value)?,
        }
    }
    // Meilisearch asks itself for one more, and counts no further than this.
    list.limit = list.limit.min(u32::MAX - 1);
    list.query.limit = Some(list.limit.into());
    Ok(list)
}

/// Reads the filters of tasks to delete or to cancel; `None` when there are none at all, which is refused as well.
pub fn parse_selection(query: Option<&str>) -> Result<Option<TaskQuery>, Malformed> {
    let mut selection = TaskQuery::default();
    let parameters = parameters(query);
    for (name, value) in &parameters {
        read_filter(&mut selection, name, value)?;
    }
    Ok((!parameters.is_empty()).then_some(selection))
}

/// Filters that no task passes: none ever has the greatest number.
const HARMLESS: [&str; 3] = ["uids", "batchUids", "canceledBy"];

/// A selection that Meilisearch refuses, for a node to refuse what is to be done to it. Should a newer node find nothing
/// wrong with it, a filter is added that leaves nothing to do: a request that is sent only for its error must never be
/// carried out. Of two filters of a name only the last is looked at, so it takes the place of none that is wrong.
pub fn spoilt(query: &str) -> String {
    let given = parameters(Some(query));
    let is_wrong =
        |(name, value): &(String, String)| read_filter(&mut TaskQuery::default(), name, value).is_err();
    let hides_nothing = |name: &&&str| !given.iter().any(|pair| pair.0 == **name && is_wrong(pair));
    // Where all of them are wrong, the others still are.
    let name = HARMLESS.iter().find(hides_nothing).unwrap_or(&"uids");
    format!("{query}&{name}={}", u32::MAX)
}

/// The parameters, each once: the last one of a name counts, and the others are not even looked at.
fn parameters(query: Option<&str>) -> Vec<(String, String)> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in parameters::pairs(query) {
        match parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, earlier)) => *earlier = value,
            None => parameters.push((name, value)),
        }
    }
    parameters
}

/// Reads one filter into the query.
fn read_filter(query: &mut TaskQuery, name: &str, value: &str) -> Result<(), Malformed> {
    let uid = |text: &str| number(text).map(u64::from);
    match name {
        "uids" => query.uids = list(value, uid)?,
        "batchUids" => query.batch_uids = list(value, uid)?,
        "canceledBy" => query.canceled_by = list(value, uid)?,
        "statuses" => query.statuses = list(value, status)?,
        "types" => query.types = list(value, kind)?,
        "indexUids" => query.index_uids = list(value, index_uid)?,
        "beforeEnqueuedAt" => query.before_enqueued_at = before(value)?,
        "afterEnqueuedAt" => query.after_enqueued_at = after(value)?,
        "beforeStartedAt" => query.before_started_at = before(value)?,
        "afterStartedAt" => query.after_started_at = after(value)?,
        "beforeFinishedAt" => query.before_finished_at = before(value)?,
        "afterFinishedAt" => query.after_finished_at = after(value)?,
        _ => return Err(Malformed),
    }
    Ok(())
}

/// A list with commas between its items; one without any matches nothing. `*` among them is no filter at all, if the
/// others are right.
fn list<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<Vec<T>>, Malformed> {
    let mut items = Vec::new();
    let mut everything = false;
    for item in text.split(',').filter(|item| !item.is_empty()) {
        match item {
            "*" => everything = true,
            _ => items.push(read(item).ok_or(Malformed)?),
        }
    }
    Ok((!everything).then_some(items))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn status(name: &str) -> Option<TaskStatus> {
    STATUSES.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(name))
}

fn kind(name: &str) -> Option<String> {
    KINDS.into_iter().find(|kind| kind.eq_ignore_ascii_case(name)).map(str::to_owned)
}

fn index_uid(uid: &str) -> Option<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_right = (1..=LONGEST_INDEX_UID).contains(&uid.len()) && uid.bytes().all(is_allowed);
    is_right.then(|| uid.to_owned())
}

/// Before a moment, or before the beginning of a day.
fn before(text: &str) -> Result<Option<String>, Malformed> {
    moment(text, |midnight| midnight)
}

/// After a moment, or after the end of a day.
fn after(text: &str) -> Result<Option<String>, Malformed> {
    moment(text, |midnight| midnight.checked_add(Duration::days(1)).unwrap_or(midnight))
}

/// A moment (RFC 3339), or what a day stands for; `None` for `*`.
fn moment(
    text: &str,
    of_day: impl Fn(OffsetDateTime) -> OffsetDateTime,
) -> Result<Option<String>, Malformed> {
    if text == "*" {
        return Ok(None);
    }
    if OffsetDateTime::parse(text, &Rfc3339).is_ok() {
        return Ok(Some(text.to_owned()));
    }
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map_err(|_| Malformed)?;
    let moment = of_day(day.with_time(Time::MIDNIGHT).assume_utc());
    // Years before the first are read, and come before everything.
    Ok(Some(moment.format(&Rfc3339).unwrap_or_else(|_| BEFORE_EVERYTHING.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> TaskQuery {
        parse_list(Some(text)).unwrap().query
    }

    #[test]
    fn a_page_has_twenty_tasks_unless_asked_otherwise() {
        let list = parse_list(None).unwrap();
        assert_eq!((list.limit, list.query.limit), (20, Some(20)));
        let list = parse_list(Some("limit=3&from=7&reverse=true")).unwrap();
        assert_eq!((list.limit, list.query.from, list.query.reverse), (3, Some(7), true));
        assert_eq!(parse_list(Some("limit=4294967295")).unwrap().limit, u32::MAX - 1);
    }

    #[test]
    fn a_star_is_no_filter_and_hides_no_mistake() {
        assert_eq!(query("uids=*&statuses=failed,*&afterEnqueuedAt=*").uids, None);
        assert_eq!(query("statuses=failed,*").statuses, None);
        assert_eq!(parse_list(Some("uids=*,x")), Err(Malformed));
        assert_eq!(query("uids=1,,2").uids, Some(vec![1, 2]));
        assert_eq!(query("uids=").uids, Some(vec![]));
    }

    #[test]
    fn the_last_of_two_counts() {
        assert_eq!(query("uids=x&uids=1").uids, Some(vec![1]));
        assert_eq!(parse_list(Some("uids=1&uids=x")), Err(Malformed));
    }

    #[test]
    fn a_selection_needs_a_filter_and_has_no_page() {
        assert_eq!(parse_selection(None), Ok(None));
        assert_eq!(parse_selection(Some("&")), Ok(None));
        assert_eq!(parse_selection(Some("uids=*")), Ok(Some(TaskQuery::default())));
        assert_eq!(parse_selection(Some("uids=1&limit=2")), Err(Malformed));
    }

    #[test]
    fn a_request_for_its_error_touches_nothing() {
        assert_eq!(spoilt("statuses=x"), "statuses=x&uids=4294967295");
        assert_eq!(spoilt("uids=x&statuses=failed"), "uids=x&statuses=failed&batchUids=4294967295");
        assert_eq!(spoilt("uids=x&batchUids=1"), "uids=x&batchUids=1&batchUids=4294967295");
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(query("statuses=FAILED").statuses, Some(vec![TaskStatus::Failed]));
        assert_eq!(query("types=SettingsUpdate").types, Some(vec!["settingsUpdate".to_owned()]));
    }

    #[test]
    fn a_day_begins_and_ends_at_midnight() {
        let query = query("beforeStartedAt=2024-02-28&afterStartedAt=2024-02-28");
        assert_eq!(query.before_started_at.as_deref(), Some("2024-02-28T00:00:00Z"));
        assert_eq!(query.after_started_at.as_deref(), Some("2024-02-29T00:00:00Z"));
        let far = self::query("beforeStartedAt=-0044-03-15&afterStartedAt=9999-12-31");
        assert_eq!(far.before_started_at.as_deref(), Some(BEFORE_EVERYTHING));
        assert_eq!(far.after_started_at.as_deref(), Some("9999-12-31T00:00:00Z"));
    }

    #[test]
    fn what_meilisearch_refuses_is_malformed() {
        for wrong in [
            "limit=-1",
            "from=x",
            "reverse=1",
            "uids=4294967296",
            "uids=%201",
            "statuses=nonsense",
            "types=nonsense",
            "indexUids=no%20spaces",
            "beforeEnqueuedAt=2024-13-01",
            "afterFinishedAt=yesterday",
            "unknown=1",
        ] {
            assert_eq!(parse_list(Some(wrong)), Err(Malformed), "{wrong}");
        }
    }
}
