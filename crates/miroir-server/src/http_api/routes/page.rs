//! `docs/compatibility.md`, made from the table. The test fails when the page is not what the table makes;
//! `MIROIR_WRITE_PAGES=1 cargo test -p miroir-server --lib compatibility` writes it.

use std::fmt::Write as _;
use std::path::Path;

use super::{Asks, Origin, ROUTES, Route, SETTINGS, Served};

const BEGINNING: &str = "\
# Which routes there are, and how Miroir serves them

Every route of Meilisearch 1.21, those that versions up to 1.50 have added, and Miroir's own. This page is made from the
table that the router is made from (`crates/miroir-server/src/http_api/routes/table.rs`); a test holds the two together.

How a route is served:

- **itself**: from what Miroir keeps: tasks, keys, settings, where shards are.
- **merged**: one copy of each shard concerned is asked, and the answers become the one of a single Meilisearch.
- **task**: a task of Miroir's, carried out on all nodes that hold a copy of what it changes.
- **node**: by the nodes, as they are.
- **no**: with a 501 `miroir_unsupported`, which says the same as this page.

A wrong request is refused in the words of the version that the nodes run, wherever it is only the form that is wrong: one of
them is asked for its refusal. A verb that a route does not have is answered with 405, and a path that is not here with 404,
both without a body, as Meilisearch does. What differs in the content of answers is in [`fidelity.md`](fidelity.md) and, with the
reasons, in [`architecture.md`](architecture.md).
";

fn whole() -> String {
    let mut page = BEGINNING.to_owned();
    section(&mut page, "Meilisearch 1.21", |route| route.origin == Origin::OLDEST);
    page += "\nThe names of settings, each with the verb that changes it; `GET` reads it, and `DELETE` resets it. Names that are not \
             here\nare handed to the nodes all the same.\n\n";
    for setting in &SETTINGS {
        write(&mut page, format_args!("- `{} …/{}`", setting.verb, setting.name));
        match (setting.since, setting.until) {
            (_, Some(until)) => write(&mut page, format_args!(", gone in {until}")),
            ("1.21", None) => {}
            (since, None) => write(&mut page, format_args!(", since {since}")),
        }
        page.push('\n');
    }
    let is_newer =
        |route: &Route| matches!(route.origin, Origin::Meilisearch(_)) && route.origin != Origin::OLDEST;
    section(&mut page, "Newer versions of Meilisearch", is_newer);
    section(&mut page, "Miroir's own", |route| route.origin == Origin::Miroir);
    page
}

fn section(page: &mut String, title: &str, is_in: impl Fn(&Route) -> bool) {
    write(page, format_args!("\n## {title}\n\n| Route | Served | Asks for | |\n| --- | --- | --- | --- |\n"));
    for route in ROUTES.iter().filter(|route| is_in(route)) {
        let served = match route.served {
            Served::Itself => "itself",
            Served::Merged => "merged",
            Served::Task => "task",
            Served::Node => "node",
            Served::Not => "no",
        };
        let asks = match route.asks {
            Asks::Nothing => "nothing".to_owned(),
            Asks::Key(action) => format!("`{}`", action.name()),
            Asks::Operator => "the admin key".to_owned(),
        };
        let since = match route.origin {
            Origin::Meilisearch(version) if route.origin != Origin::OLDEST => format!("Since {version}. "),
            _ => String::new(),
        };
        let mut note = route.note.to_owned();
        if let Some(first) = note.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let (method, path) = (route.method, route.path);
        write(page, format_args!("| `{method} {path}` | {served} | {asks} | {since}{note} |\n"));
    }
}

fn write(page: &mut String, arguments: std::fmt::Arguments<'_>) {
    page.write_fmt(arguments).expect("a string can be written to");
}

#[test]
fn the_compatibility_page_is_what_the_table_makes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = whole();
    if std::env::var_os("MIROIR_WRITE_PAGES").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == page,
        "docs/compatibility.md is not what the table makes; write it with \
         `MIROIR_WRITE_PAGES=1 cargo test -p miroir-server --lib compatibility`"
    );
}

#[test]
fn each_route_that_is_not_served_says_why() {
    for route in ROUTES.iter().filter(|route| route.served == Served::Not) {
        assert!(route.note.ends_with('.'), "{} {}", route.method, route.path);
    }
}
