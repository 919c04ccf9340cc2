//! What may differ between Miroir and one Meilisearch in the parity suite, and why: one short list.
//!
//! A field in it must still be there and have the same form (a date, a number, …); only then is its value left out of the
//! comparison. Everything else must be equal.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// What a request is about, as far as the list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An answer that announces a task, a task, a list of tasks.
    Tasks,
    /// A batch or a list of them.
    Batches,
    /// An index or a list of them.
    Indexes,
    /// A key or a list of them.
    Keys,
    /// Statistics.
    Stats,
    /// A search of whatever kind.
    Search,
    /// All else, where nothing may differ.
    Other,
}

/// What a value must look like to be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A moment, in RFC 3339 and UTC.
    Date,
    /// A duration in seconds, as ISO 8601 writes it.
    Duration,
    /// A number that is not negative.
    Number,
    /// A number that says which task: those of the sequence itself must be the same ones.
    Task,
    /// A text in which such numbers are.
    TaskFilter,
    /// A UUID.
    Uuid,
    /// Whatever is there.
    Anything,
}

/// Fields that may differ, where, in which form, and why.
pub const MAY_DIFFER: &[(Kind, &[&str], Form, &str)] = &[
    (Kind::Search, &["processingTimeMs"], Form::Number, "how long it took"),
    (Kind::Search, &["requestUid"], Form::Uuid, "made anew for each request"),
    (Kind::Tasks, &["taskUid", "uid", "from", "next"], Form::Task, "counted over all sequences"),
    (Kind::Tasks, &["originalFilter"], Form::TaskFilter, "may name tasks of the sequence"),
    (Kind::Tasks, &["batchUid"], Form::Number, "with Miroir, each task is a batch of its own"),
    (Kind::Tasks, &["enqueuedAt", "startedAt", "finishedAt"], Form::Date, "the clock"),
    (Kind::Tasks, &["duration"], Form::Duration, "how long it took"),
    (Kind::Batches, &["uid", "from", "next"], Form::Number, "with Miroir, each task is a batch of its own"),
    (Kind::Batches, &["startedAt", "finishedAt"], Form::Date, "the clock"),
    (Kind::Batches, &["duration"], Form::Duration, "how long it took"),
    (
        Kind::Batches,
        &["progressTrace", "writeChannelCongestion", "internalDatabaseSizes", "embedderRequests"],
        Form::Anything,
        "the insides of one server, which several have several of",
    ),
    (Kind::Batches, &["batchStrategy"], Form::Anything, "tells of the tasks of other sequences"),
    (Kind::Indexes, &["createdAt", "updatedAt"], Form::Date, "the clock"),
    (Kind::Keys, &["createdAt", "updatedAt"], Form::Date, "the clock"),
    (
        Kind::Stats,
        &["databaseSize", "usedDatabaseSize", "rawDocumentDbSize", "avgDocumentSize"],
        Form::Number,
        "how a server stores documents, and Miroir's fields are stored with them",
    ),
    (Kind::Stats, &["lastUpdate"], Form::Date, "the clock"),
];

/// Messages that go on otherwise, by how they begin.
pub const MESSAGES_MAY_GO_ON: &[(&str, &str)] = &[
    ("Tenant token expired. Was valid up to `", "tells the time"),
    ("Could not decode tenant token, JSON error: UUID parsing failed: ", "the words of a library's version"),
];

/// Headers that may differ: which, what of it if not all, and why.
pub const HEADERS_MAY_DIFFER: &[(&str, &str, &str)] = &[
    ("date", "", "the clock"),
    ("content-length", "", "the length of what may differ; the transport sees to it that it is right"),
    ("transfer-encoding", "", "follows from the length"),
    (
        "vary",
        "accept-encoding",
        "Meilisearch leaves it out of what it did not compress, which caches must know too",
    ),
];

/// What a request is about.
pub fn kind(path: &str) -> Kind {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        ["tasks", ..] => Kind::Tasks,
        ["batches", ..] => Kind::Batches,
        ["keys", ..] => Kind::Keys,
        ["stats"] | ["indexes", _, "stats"] => Kind::Stats,
        ["indexes"] | ["indexes", _] => Kind::Indexes,
        ["multi-search"] | ["indexes", _, "search" | "facet-search"] => Kind::Search,
        _ => Kind::Other,
    }
}

/// A body without what may differ. `tasks` are the uids of the sequence's tasks on this server.
pub fn comparable(kind: Kind, body: &Value, tasks: &[u64]) -> Value {
    match body {
        Value::Object(fields) => {
            let shown = |(name, value): (&String, &Value)| {
                let rule = MAY_DIFFER.iter().find(|(about, names, form, _)| {
                    *about == kind && names.contains(&name.as_str()) && has_form(value, *form)
                });
                let value = match rule {
                    // Not even that it is there.
                    Some((_, _, Form::Anything, _)) => return None,
                    Some((_, _, Form::Task, _)) => which_task(value, tasks),
                    Some((_, _, Form::TaskFilter, _)) => which_tasks(value, tasks),
                    Some((_, _, form, _)) => json!(format!("{form:?}")),
                    None if name == "message" => without_its_end(value),
                    // Documents may have fields of any name.
                    None if name == "hits" => value.clone(),
                    None => comparable(kind, value, tasks),
                };
                Some((name.clone(), value))
            };
            Value::Object(fields.iter().filter_map(shown).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| comparable(kind, item, tasks)).collect()),
        other => other.clone(),
    }
}

/// Headers that must be equal, as the set of what each lists, on however many lines.
pub fn comparable_headers(headers: &[(String, String)]) -> Value {
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !name.starts_with("x-miroir-")) {
        for item in value.split(',').map(|item| item.trim().to_ascii_lowercase()) {
            let differs = |(differing, which, _): &(&str, &str, &str)| {
                differing == name && (which.is_empty() || *which == item)
            };
            if !HEADERS_MAY_DIFFER.iter().any(differs) {
                shown.entry(name.clone()).or_default().insert(item);
            }
        }
    }
    json!(shown)
}

fn which_task(value: &Value, tasks: &[u64]) -> Value {
    let position = tasks.iter().position(|task| value.as_u64() == Some(*task));
    json!(position.map_or("a task of another sequence".to_owned(), |position| format!("task {position}")))
}

fn which_tasks(filter: &Value, tasks: &[u64]) -> Value {
    let text = filter.as_str().unwrap_or_default().to_owned();
    let named = tasks
        .iter()
        .enumerate()
        .fold(text, |text, (position, task)| text.replace(&format!("={task}"), &format!("=task {position}")));
    json!(named)
}

fn without_its_end(message: &Value) -> Value {
    let text = message.as_str().unwrap_or_default();
    match MESSAGES_MAY_GO_ON.iter().find(|(beginning, _)| text.starts_with(beginning)) {
        Some((beginning, _)) => json!(beginning),
        None => message.clone(),
    }
}

fn has_form(value: &Value, form: Form) -> bool {
    let text = value.as_str().unwrap_or_default();
    match form {
        Form::Date => text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'),
        Form::Duration => text.starts_with("PT") && text.ends_with('S'),
        Form::Number | Form::Task => value.is_u64(),
        Form::TaskFilter => text.starts_with('?'),
        Form::Uuid => text.len() == 36 && text.split('-').count() == 5,
        Form::Anything => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_form_still_differs() {
        let task = |date: Value| json!({ "uid": 7, "startedAt": date, "error": { "code": "x" } });
        let shown = |date| comparable(Kind::Tasks, &task(date), &[5, 7]);
        assert_eq!(shown(json!("2026-01-01T00:00:00.5Z")), shown(json!("2027-01-01T00:00:00Z")));
        assert_ne!(shown(json!("2026-01-01T00:00:00Z")), shown(json!(null)));
        assert_ne!(shown(json!("2026-01-01T00:00:00Z")), shown(json!("2026-01-01T00:00:00+00:00")));
        assert_eq!(shown(json!(null))["uid"], "task 1");
    }

    #[test]
    fn documents_are_compared_whole() {
        let documents = json!({ "results": [{ "uid": 7, "createdAt": "2026-01-01T00:00:00Z" }] });
        assert_eq!(comparable(kind("/indexes/a/documents?limit=1"), &documents, &[]), documents);
        let hits = json!({ "hits": [{ "processingTimeMs": 7 }], "processingTimeMs": 7 });
        assert_eq!(comparable(kind("/indexes/a/search"), &hits, &[])["hits"], hits["hits"]);
    }

    #[test]
    fn lists_in_headers_have_no_order_and_clocks_do_not_count() {
        let headers = |allow: &str, date: &str| {
            comparable_headers(&[("allow".into(), allow.into()), ("date".into(), date.into())])
        };
        assert_eq!(headers("GET, POST", "1"), headers("POST,GET", "2"));
        assert_ne!(headers("GET, POST", "1"), headers("GET", "1"));
        let vary = |value: &str| comparable_headers(&[("vary".into(), value.into())]);
        assert_eq!(vary("Origin, Accept-Encoding"), vary("origin"));
        assert_ne!(vary("Origin"), vary("Accept-Encoding"));
    }
}
