//! The table. A row is: verb, path, in parentheses the version of Meilisearch that has it first (nothing for 1.21) or
//! `miroir`; what a key must allow (or `nothing`, or `operator`); how it is answered, and by what; a note.
//!
//! To serve a route, put `Itself`, `Merged`, `Task` or `Node` and a handler where `not` and its name are, and write
//! `docs/compatibility.md` again as `page.rs` says.

use axum::routing::{MethodFilter, on};
use miroir_core::access::Action;

use super::super::unsupported::refusal;
use super::super::{
    admin, archives, batches, documents, export, features, indexes, keys, multi_search, replicas, search,
    settings, similar, swap, system, tasks, webhooks,
};
use super::{Asks, Origin, Route, Served};

macro_rules! origin {
    () => {
        Origin::OLDEST
    };
    (miroir) => {
        Origin::Miroir
    };
    ($version:literal) => {
        Origin::Meilisearch($version)
    };
}

macro_rules! asks {
    (nothing) => {
        Asks::Nothing
    };
    (operator) => {
        Asks::Operator
    };
    ($action:ident) => {
        Asks::Key(Action::$action)
    };
}

macro_rules! row {
    ($verb:ident $path:literal $origin:expr, $asks:expr, $note:expr, not $what:literal) => {
        row!(@ $verb $path $origin, $asks, $note, Served::Not, async || refusal($what, $note))
    };
    ($verb:ident $path:literal $origin:expr, $asks:expr, $note:expr, $how:ident $handler:path) => {
        row!(@ $verb $path $origin, $asks, $note, Served::$how, $handler)
    };
    (@ $verb:ident $path:literal $origin:expr, $asks:expr, $note:expr, $served:expr, $handler:expr) => {
        Route {
            method: stringify!($verb),
            path: $path,
            origin: $origin,
            asks: $asks,
            served: $served,
            note: $note,
            handler: || on(MethodFilter::$verb, $handler),
        }
    };
}

macro_rules! routes {
    ($($verb:ident $path:literal $(($origin:tt))? $asks:ident [$($answer:tt)+] $note:expr;)+) => {
        &[$(row!($verb $path origin!($($origin)?), asks!($asks), $note, $($answer)+)),+]
    };
}

const NOT_YET: &str = "it is not built yet.";
const CHATS: &str = "a conversation is an exchange of one server with a language model, with its own searches in between. \
                     Let the program that talks to the model search through Miroir, as a tool of the model.";
const LOGS: &str =
    "each node has a log of its own, and clients of Miroir do not know the nodes. Ask each node.";
const NETWORK: &str = "it is Meilisearch's own sharding, and Miroir is what shards here. `GET /_miroir/topology` and \
                       `GET /_miroir/shards` tell how.";
const METRICS: &str = "the numbers are those of one server. Have each node's own `/metrics` collected, and \
                       `GET /_miroir/topology` for those of Miroir.";
const RULES: &str = "a rule puts documents at places in the list of hits, on a server that knows all of them; nodes know \
                     their own. Put them there in the program that asks.";
const QUEUE: &str = "Miroir's tasks need no such thing. Have the tasks of a node compacted by that node.";
const RENDER: &str = "nodes render templates with the settings they hold, which are not quite the user's. Ask a \
                      Meilisearch that is not behind Miroir.";

/// All routes.
pub static ROUTES: &[Route] = routes! {
    GET    "/"                                  nothing             [Itself system::root] "As Meilisearch in production; in development it shows a page for trying searches.";
    GET    "/health"                            nothing             [Itself system::health] "Miroir itself is there; `/_miroir/ready` tells whether the nodes are.";
    GET    "/version"                           VERSION             [Node system::version] "The version of the oldest node.";
    GET    "/stats"                             STATS_GET           [Merged system::stats] "";

    GET    "/indexes"                           INDEXES_GET         [Itself indexes::list] "";
    POST   "/indexes"                           INDEXES_CREATE      [Task indexes::create] "";
    GET    "/indexes/{uid}"                     INDEXES_GET         [Itself indexes::get] "";
    PATCH  "/indexes/{uid}"                     INDEXES_UPDATE      [Task indexes::update] "Another uid is one transaction of Miroir's store; nodes keep theirs.";
    DELETE "/indexes/{uid}"                     INDEXES_DELETE      [Task indexes::delete] "";
    GET    "/indexes/{uid}/stats"               STATS_GET           [Merged system::index_stats] "";
    POST   "/indexes/{uid}/compact" ("1.23")    INDEXES_UPDATE      [not "Compacting an index"] NOT_YET;
    POST   "/indexes/{uid}/fields" ("1.33")     INDEXES_GET         [not "Listing fields"] NOT_YET;
    POST   "/swap-indexes"                      INDEXES_SWAP        [Task swap::post] "Names are exchanged in one transaction of Miroir's store; nodes keep theirs.";

    GET    "/indexes/{uid}/search"              SEARCH              [Merged search::by_query] "";
    POST   "/indexes/{uid}/search"              SEARCH              [Merged search::by_body] "";
    POST   "/indexes/{uid}/facet-search"        SEARCH              [Merged search::facets] "";
    GET    "/indexes/{uid}/similar"             SEARCH              [Merged similar::by_query] "The vector of the document is taken where it is; the others are asked by it.";
    POST   "/indexes/{uid}/similar"             SEARCH              [Merged similar::by_body] "The same.";
    GET    "/indexes/{uid}/explain" (miroir)    SETTINGS_GET        [Merged search::explain_query] "Which shards and nodes a search asks, and why; with `execute=true` it is carried out as well.";
    POST   "/indexes/{uid}/explain" (miroir)    SETTINGS_GET        [Merged search::explain_body] "The same.";
    POST   "/multi-search"                      SEARCH              [Merged multi_search::post] "";

    GET    "/indexes/{uid}/documents"           DOCUMENTS_GET       [Merged documents::browse] "";
    POST   "/indexes/{uid}/documents"           DOCUMENTS_ADD       [Task documents::replace] "";
    PUT    "/indexes/{uid}/documents"           DOCUMENTS_ADD       [Task documents::update] "";
    DELETE "/indexes/{uid}/documents"           DOCUMENTS_DELETE    [Task documents::clear] "";
    POST   "/indexes/{uid}/documents/fetch"     DOCUMENTS_GET       [Merged documents::fetch] "";
    POST   "/indexes/{uid}/documents/edit"      DOCUMENTS_ALL       [Task documents::edit] "The function is applied once, aside, and what it did is written like documents.";
    POST   "/indexes/{uid}/documents/delete"    DOCUMENTS_DELETE    [Task documents::delete_by_filter] "";
    POST   "/indexes/{uid}/documents/delete-batch" DOCUMENTS_DELETE [Task documents::delete_batch] "";
    GET    "/indexes/{uid}/documents/{id}"      DOCUMENTS_GET       [Merged documents::get] "One shard is asked.";
    DELETE "/indexes/{uid}/documents/{id}"      DOCUMENTS_DELETE    [Task documents::delete] "";

    GET    "/indexes/{uid}/settings"            SETTINGS_GET        [Itself settings::whole] "";
    PATCH  "/indexes/{uid}/settings"            SETTINGS_UPDATE     [Task settings::whole] "";
    DELETE "/indexes/{uid}/settings"            SETTINGS_UPDATE     [Task settings::whole] "";
    GET    "/indexes/{uid}/settings/{name}"     SETTINGS_GET        [Itself settings::one] "";
    PUT    "/indexes/{uid}/settings/{name}"     SETTINGS_UPDATE     [Task settings::one] "";
    PATCH  "/indexes/{uid}/settings/{name}"     SETTINGS_UPDATE     [Task settings::one] "";
    DELETE "/indexes/{uid}/settings/{name}"     SETTINGS_UPDATE     [Task settings::one] "";

    GET    "/tasks"                             TASKS_GET           [Itself tasks::list] "";
    DELETE "/tasks"                             TASKS_DELETE        [Itself tasks::delete] "";
    POST   "/tasks/cancel"                      TASKS_CANCEL        [Task tasks::cancel] "Tasks that write documents, for as long as no node has done its part.";
    GET    "/tasks/{uid}"                       TASKS_GET           [Itself tasks::get] "";
    GET    "/tasks/{uid}/documents"             TASKS_GET           [Node tasks::documents] "An experiment of Meilisearch's that is off: always refused.";
    POST   "/tasks/compact" ("1.40")            TASKS_DELETE        [not "Compacting the queue of tasks"] QUEUE;
    GET    "/batches"                           TASKS_GET           [Itself batches::list] "Each task is a batch of its own.";
    GET    "/batches/{uid}"                     TASKS_GET           [Itself batches::get] "";

    GET    "/keys"                              KEYS_GET            [Itself keys::list] "";
    POST   "/keys"                              KEYS_CREATE         [Itself keys::create] "";
    GET    "/keys/{key}"                        KEYS_GET            [Itself keys::get] "";
    PATCH  "/keys/{key}"                        KEYS_UPDATE         [Itself keys::update] "";
    DELETE "/keys/{key}"                        KEYS_DELETE         [Itself keys::delete] "";

    GET    "/webhooks"                          WEBHOOKS_GET        [Itself webhooks::list] "Miroir tells webhooks itself, once for a task of its own.";
    POST   "/webhooks"                          WEBHOOKS_CREATE     [Itself webhooks::create] "";
    GET    "/webhooks/{uuid}"                   WEBHOOKS_GET        [Itself webhooks::get] "";
    PATCH  "/webhooks/{uuid}"                   WEBHOOKS_UPDATE     [Itself webhooks::update] "";
    DELETE "/webhooks/{uuid}"                   WEBHOOKS_DELETE     [Itself webhooks::delete] "";

    POST   "/dumps"                             DUMPS_CREATE        [Task archives::dump] "A file in `dump_dir` that a Meilisearch takes in with `--import-dump`.";
    POST   "/snapshots"                         SNAPSHOTS_CREATE    [Task archives::snapshot] "Of all nodes, each in its own directory, and of Miroir's store in `snapshot_dir`.";
    POST   "/export"                            EXPORT              [Task export::post] "To addresses that begin with `http://`.";
    GET    "/experimental-features"             EXPERIMENTAL_GET    [Itself features::get] "";
    PATCH  "/experimental-features"             EXPERIMENTAL_UPDATE [Itself features::update] "On every node; those that concern one server only cannot be turned on.";

    GET    "/metrics"                           METRICS_GET         [not "Collecting metrics"] METRICS;
    POST   "/logs/stream"                       METRICS_GET         [not "Streaming logs"] LOGS;
    DELETE "/logs/stream"                       METRICS_GET         [not "Streaming logs"] LOGS;
    POST   "/logs/stderr"                       METRICS_GET         [not "Changing what is logged"] LOGS;
    GET    "/network"                           NETWORK_GET         [not "The network of Meilisearch"] NETWORK;
    PATCH  "/network"                           NETWORK_UPDATE      [not "The network of Meilisearch"] NETWORK;
    POST   "/network/control" ("1.37")          NETWORK_UPDATE      [not "The network of Meilisearch"] NETWORK;

    GET    "/chats"                             CHATS_GET           [not "Chat completion"] CHATS;
    GET    "/chats/{workspace}"                 CHATS_GET           [not "Chat completion"] CHATS;
    DELETE "/chats/{workspace}"                 CHATS_DELETE        [not "Chat completion"] CHATS;
    POST   "/chats/{workspace}/chat/completions" CHAT_COMPLETIONS   [not "Chat completion"] CHATS;
    GET    "/chats/{workspace}/settings"        CHATS_SETTINGS_GET  [not "Chat completion"] CHATS;
    PATCH  "/chats/{workspace}/settings"        CHATS_SETTINGS_UPDATE [not "Chat completion"] CHATS;
    DELETE "/chats/{workspace}/settings"        CHATS_SETTINGS_UPDATE [not "Chat completion"] CHATS;

    POST   "/dynamic-search-rules" ("1.41")     SETTINGS_GET        [not "Search rules"] RULES;
    DELETE "/dynamic-search-rules" ("1.50")     SETTINGS_UPDATE     [not "Search rules"] RULES;
    GET    "/dynamic-search-rules/{uid}" ("1.41") SETTINGS_GET      [not "Search rules"] RULES;
    PATCH  "/dynamic-search-rules/{uid}" ("1.41") SETTINGS_UPDATE   [not "Search rules"] RULES;
    DELETE "/dynamic-search-rules/{uid}" ("1.41") SETTINGS_UPDATE   [not "Search rules"] RULES;
    POST   "/render-template" ("1.48")          SETTINGS_GET        [not "Rendering templates"] RENDER;

    GET    "/_miroir/openapi.json" (miroir)     nothing             [Itself admin::openapi] "Describes the routes of this list, for programs.";
    GET    "/_miroir/ready" (miroir)            nothing             [Itself admin::ready] "Whether every shard of every index can be read.";
    GET    "/_miroir/topology" (miroir)         operator            [Itself admin::topology] "The nodes, and how they are.";
    GET    "/_miroir/shards" (miroir)           operator            [Merged admin::shards] "Where the shards are, and how many documents each node holds.";
    GET    "/_miroir/replicas" (miroir)         operator            [Itself replicas::list] "The replicas that are not active.";
    POST   "/_miroir/replicas/promote" (miroir) operator            [Node replicas::promote] "Gives up a last copy that is gone for good.";
    POST   "/_miroir/verify" (miroir)           operator            [Node replicas::verify] "Compares the replicas of an index.";
    POST   "/_miroir/dumps/import" (miroir)     operator            [Task archives::import] "Takes in a dump, which is the body: its indexes and keys.";
    GET    "/_miroir/dumps/import" (miroir)     operator            [Itself archives::import_status] "How far the last import has come.";
    GET    "/_miroir/workers" (miroir)          operator            [Itself replicas::workers] "The background jobs.";
};
