//! Drawing a request: a route, what stands in its path, a query string, headers and a key; `body` draws the rest.

use miroir_server::{Asks, ROUTES, Route, SETTINGS};
use reqwest::Method;

use super::Request;
use super::body;
use super::words::{ATTRIBUTES, CONTENT_TYPES, FILTERS, INDEXES, ODD, QUERIES, SORTS, TASK_LISTS};
use crate::cluster::{ADMIN_API_KEY, MASTER_KEY};
use crate::corpus::Dice;

/// Draws requests.
pub(super) struct Drawer {
    dice: Dice,
    /// How often each route comes.
    weights: Vec<usize>,
}

/// Where the many ways to go wrong are, requests go more often; what keeps a node busy for long, or takes away what the
/// others work on, comes rarely.
fn weight(route: &Route) -> usize {
    match (route.method, route.path) {
        (_, path) if path.ends_with("/search") || path == "/multi-search" => 40,
        (_, path) if path.ends_with("/facet-search") || path.ends_with("/explain") => 25,
        (_, path) if path.ends_with("/similar") || path.ends_with("/documents/fetch") => 20,
        ("GET", path) if path.starts_with("/indexes/{uid}/documents") => 15,
        ("GET" | "DELETE", "/tasks" | "/batches") => 15,
        (_, path) if path.starts_with("/keys") || path.starts_with("/webhooks") => 8,
        ("DELETE", "/indexes/{uid}" | "/indexes/{uid}/documents" | "/indexes/{uid}/settings") => 1,
        ("POST", "/dumps" | "/snapshots" | "/export" | "/indexes/{uid}/compact") => 1,
        ("POST", "/_miroir/dumps/import" | "/_miroir/verify") => 2,
        (_, path) if path.contains("/settings") => 4,
        _ => 6,
    }
}

impl Drawer {
    /// One that draws by these dice.
    pub fn new(dice: Dice) -> Self {
        Self { dice, weights: ROUTES.iter().map(weight).collect() }
    }

    /// The next request.
    pub fn draw(&mut self) -> Request {
        let route = self.route();
        let mut path = self.path(route);
        if self.dice.once_in(2) {
            path.push_str(&self.query(route.path));
        }
        let verb = if self.dice.once_in(40) {
            self.word(&["HEAD", "OPTIONS", "TRACE", "BREW"])
        } else {
            route.method
        };
        let method = Method::from_bytes(verb.as_bytes()).expect("a verb is a word");
        let body = match route.method {
            "GET" if !self.dice.once_in(20) => None,
            "DELETE" if !self.dice.once_in(10) => None,
            _ => body::draw(&mut self.dice, route.path),
        };
        let mut headers = Vec::new();
        if body.is_some() {
            let kind = if self.dice.once_in(6) { self.word(&CONTENT_TYPES) } else { CONTENT_TYPES[0] };
            headers.push(("content-type", kind.to_owned()));
        }
        for (name, values) in [
            ("content-encoding", &["gzip", "br", "deflate", "zstd"][..]),
            ("idempotency-key", &["one", "two", " ", "\u{7f}"]),
            ("x-miroir-session", &["one", "two", "a b"]),
            ("accept-encoding", &["identity", "*;q=0"]),
            ("x-meilisearch-include-metadata", &["true", "perhaps"]),
            ("origin", &["https://shop.example", "null"]),
        ] {
            if self.dice.once_in(25) {
                headers.push((name, self.word(values).to_owned()));
            }
        }
        Request { method, path, headers, body, key: self.key(route.asks) }
    }

    fn route(&mut self) -> &'static Route {
        let mut left = self.dice.below(self.weights.iter().sum());
        for (route, weight) in ROUTES.iter().zip(&self.weights) {
            if left < *weight {
                return route;
            }
            left -= weight;
        }
        &ROUTES[0]
    }

    fn key(&mut self, asks: Asks) -> Option<String> {
        if self.dice.once_in(20) {
            let wrong = ["", "wrong", "eyJhbGciOiJub25lIn0.eyJzZWFyY2hSdWxlcyI6WyIqIl19.", "a.b.c", "...."];
            return Some(self.word(&wrong).to_owned());
        }
        match asks {
            Asks::Operator => Some(ADMIN_API_KEY.to_owned()),
            Asks::Key(_) => Some(MASTER_KEY.to_owned()),
            Asks::Nothing => None,
        }
    }

    fn path(&mut self, route: &Route) -> String {
        let parts = route.path.split('/').map(|part| match part {
            "{uid}" if route.path.starts_with("/indexes") => escaped(self.index(route.method)),
            "{uid}" | "{id}" => {
                let number = self.dice.between(-1, 60).to_string();
                if self.dice.once_in(5) { escaped(self.word(&ODD)) } else { number }
            }
            "{name}" if !self.dice.once_in(8) => self.dice.pick(&SETTINGS).name.to_owned(),
            "{key}" | "{uuid}" if self.dice.once_in(2) => "627ea538-733d-4545-8d2d-03526eb381ce".to_owned(),
            name if name.starts_with('{') => escaped(self.word(&ODD)),
            fixed => fixed.to_owned(),
        });
        let path = parts.collect::<Vec<_>>().join("/");
        match self.dice.below(60) {
            0 => format!("{path}/"),
            1 => format!("/{path}"),
            2 => format!("{path}/%ff"),
            _ => path,
        }
    }

    /// Mostly one that is there, but not to be deleted.
    fn index(&mut self, method: &str) -> &'static str {
        match self.dice.below(4) {
            0 => self.word(&INDEXES),
            _ if method == "DELETE" => INDEXES[3],
            _ => self.word(&INDEXES[..2]),
        }
    }

    fn query(&mut self, path: &str) -> String {
        let is_list_of_tasks = path.starts_with("/tasks") || path.starts_with("/batches");
        let mut query = String::new();
        for _ in 0..=self.dice.below(3) {
            let (name, value) = if is_list_of_tasks { self.task_parameter() } else { self.parameter() };
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            if !self.dice.once_in(30) {
                query.push('=');
                let value = if self.dice.once_in(8) { self.word(&ODD).to_owned() } else { value };
                query.push_str(&escaped(&value));
            }
        }
        query
    }

    fn word(&mut self, words: &[&'static str]) -> &'static str {
        words[self.dice.below(words.len())]
    }

    fn number(&mut self) -> String {
        let high = if self.dice.once_in(6) { i64::MAX } else { 30 };
        self.dice.between(-2, high).to_string()
    }

    fn task_parameter(&mut self) -> (&'static str, String) {
        let lists = ["uids", "batchUids", "statuses", "types", "indexUids", "canceledBy"];
        let times = ["beforeEnqueuedAt", "afterEnqueuedAt", "beforeStartedAt", "afterFinishedAt"];
        match self.dice.below(4) {
            0 => (self.word(&lists), self.word(&TASK_LISTS).to_owned()),
            1 => (self.word(&times), self.word(&["2026-01-01", "2999-01-01T00:00:00Z", "*"]).to_owned()),
            2 => (self.word(&["limit", "from", "offset"]), self.number()),
            _ => (self.word(&["reverse", "perhaps"]), self.word(&["true", "false", "1"]).to_owned()),
        }
    }

    fn parameter(&mut self) -> (&'static str, String) {
        let numbers = ["limit", "offset", "page", "hitsPerPage", "cropLength", "id", "rankingScoreThreshold"];
        let truths = ["showRankingScore", "showMatchesPosition", "retrieveVectors", "execute", "overwrite"];
        let attributes =
            ["facets", "fields", "attributesToRetrieve", "attributesToHighlight", "distinct", "primaryKey"];
        match self.dice.below(8) {
            0 => ("q", self.word(&QUERIES).to_owned()),
            1 => ("filter", self.word(&FILTERS).to_owned()),
            2 => ("sort", self.word(&SORTS).to_owned()),
            3 | 4 => (self.word(&numbers), self.number()),
            5 => (self.word(&truths), self.word(&["true", "false", "1"]).to_owned()),
            6 => (self.word(&attributes), self.word(&ATTRIBUTES).to_owned()),
            _ => {
                (self.word(&["csvDelimiter", "ids", "embedder", "hybridEmbedder", "perhaps"]), self.number())
            }
        }
    }
}

/// As it stands in a URL: what would end the part, or cannot be in one, in hexadecimal.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b',' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
