//! The words that requests are made of: what is there, what is not there, and what is hard to read.

/// Uids of indexes. The first two are there and have documents.
pub(super) const INDEXES: [&str; 8] =
    ["films", "books", "nowhere", "empty", "no spaces", "", "a-_-9", "_miroir_node"];
/// Names of fields.
pub(super) const ATTRIBUTES: [&str; 13] = [
    "title",
    "genre",
    "year",
    "id",
    "_geo",
    "cast.name",
    "cast",
    "*",
    "nothing",
    "_miroir_shard",
    "",
    "tit*",
    "_vectors",
];
/// Filters.
pub(super) const FILTERS: [&str; 18] = [
    "genre = drama",
    "year > 1990 AND genre IN [drama, war]",
    "id = 7",
    "id IN [1, 2, 3]",
    "NOT (year 1990 TO 2000)",
    "_geoRadius(45.4, 9.1, 2000)",
    "_geoBoundingBox([45.5, 9.3], [45.4, 9.1])",
    "genre EXISTS OR year IS NULL",
    "genre STARTS WITH dr",
    "genre = ",
    "nothing = 1",
    "((((((((((genre = a",
    "_miroir_shard IN [\"!\"]",
    "id = 7) OR (id = 8",
    "genre = \"a\\\"",
    "year = 1e999",
    "",
    "\u{0}",
];
/// What people search for.
pub(super) const QUERIES: [&str; 12] = [
    "alien",
    "the",
    "",
    "a b c d e f g h i j k l m n o p",
    "\"exact phrase\"",
    "-alien",
    "ali",
    "\u{1F600}",
    "\u{202e}neila",
    "東京",
    "\"",
    "é\u{301}",
];
/// Texts that are hard to read.
pub(super) const ODD: [&str; 16] = [
    "",
    " ",
    "*",
    "null",
    "-1",
    "18446744073709551616",
    "1e400",
    "../../etc/passwd",
    "%00",
    "{{doc}}",
    "\u{feff}",
    "\u{0}\u{1}",
    "2026-02-30T25:61:61Z",
    "1970-01-01",
    "true",
    "'; DROP TABLE tasks; --",
];
/// Sort rules.
pub(super) const SORTS: [&str; 7] = [
    "year:asc",
    "title:desc",
    "_geoPoint(45.4, 9.1):asc",
    "year",
    "nothing:asc",
    "_miroir_inserted_at:asc",
    ":",
];
/// Lists in query strings of `/tasks`.
pub(super) const TASK_LISTS: [&str; 9] = [
    "0",
    "1,2,3",
    "succeeded",
    "enqueued,failed",
    "documentAdditionOrUpdate",
    "settingsUpdate,indexCreation",
    "films",
    "*",
    "0,a",
];
/// Kinds of bodies.
pub(super) const CONTENT_TYPES: [&str; 7] = [
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "application/json; charset=utf-8",
    "text/plain",
    "application/octet-stream",
    "",
];
