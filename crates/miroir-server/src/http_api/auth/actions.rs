//! What each route of Meilisearch asks of a key: one table, as Meilisearch's documentation of its routes has it.

use http::Method;
use miroir_core::access::Action;

/// The action a request needs; `None` for a verb that a route does not have.
pub fn action_of(method: &Method, route: &str) -> Option<Action> {
    let [get, post, put, patch, delete] = verbs(route)?;
    match *method {
        Method::GET => get,
        Method::POST => post,
        Method::PUT => put,
        Method::PATCH => patch,
        Method::DELETE => delete,
        _ => None,
    }
}

/// The verbs a route has, as a header lists them; `None` for a route that is not in the table.
pub fn verbs_of(route: &str) -> Option<String> {
    const NAMES: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let verbs = verbs(route)?;
    let had: Vec<&str> = NAMES.iter().zip(verbs).filter_map(|(name, action)| action.map(|_| *name)).collect();
    Some(had.join(", "))
}

/// Actions for GET, POST, PUT, PATCH and DELETE.
type Verbs = [Option<Action>; 5];

fn verbs(route: &str) -> Option<Verbs> {
    const NONE: Option<Action> = None;
    const SEARCH: Option<Action> = Some(Action::SEARCH);
    const GET_DOCUMENTS: Option<Action> = Some(Action::DOCUMENTS_GET);
    const ADD_DOCUMENTS: Option<Action> = Some(Action::DOCUMENTS_ADD);
    const DELETE_DOCUMENTS: Option<Action> = Some(Action::DOCUMENTS_DELETE);
    const CHANGE_SETTINGS: Option<Action> = Some(Action::SETTINGS_UPDATE);
    let reads = |action| [Some(action), NONE, NONE, NONE, NONE];
    let posts = |action| [NONE, Some(action), NONE, NONE, NONE];
    let get_index = Some(Action::INDEXES_GET);
    let update_index = Some(Action::INDEXES_UPDATE);
    Some(match route {
        "/indexes" => [get_index, Some(Action::INDEXES_CREATE), NONE, NONE, NONE],
        "/indexes/{uid}" => [get_index, NONE, NONE, update_index, Some(Action::INDEXES_DELETE)],
        "/indexes/{uid}/stats" | "/stats" => reads(Action::STATS_GET),
        "/indexes/{uid}/search" | "/indexes/{uid}/similar" => [SEARCH, SEARCH, NONE, NONE, NONE],
        "/indexes/{uid}/facet-search" | "/multi-search" => posts(Action::SEARCH),
        "/indexes/{uid}/settings" => {
            [Some(Action::SETTINGS_GET), NONE, NONE, CHANGE_SETTINGS, CHANGE_SETTINGS]
        }
        "/indexes/{uid}/settings/{name}" => {
            [Some(Action::SETTINGS_GET), NONE, CHANGE_SETTINGS, CHANGE_SETTINGS, CHANGE_SETTINGS]
        }
        "/indexes/{uid}/documents" => [GET_DOCUMENTS, ADD_DOCUMENTS, ADD_DOCUMENTS, NONE, DELETE_DOCUMENTS],
        "/indexes/{uid}/documents/{id}" => [GET_DOCUMENTS, NONE, NONE, NONE, DELETE_DOCUMENTS],
        "/indexes/{uid}/documents/fetch" => posts(Action::DOCUMENTS_GET),
        "/indexes/{uid}/documents/delete-batch" | "/indexes/{uid}/documents/delete" => {
            posts(Action::DOCUMENTS_DELETE)
        }
        "/indexes/{uid}/documents/edit" => posts(Action::DOCUMENTS_ALL),
        "/indexes/{uid}/compact" => posts(Action::INDEXES_UPDATE),
        "/indexes/{uid}/fields" => [get_index, get_index, NONE, NONE, NONE],
        "/tasks" => [Some(Action::TASKS_GET), NONE, NONE, NONE, Some(Action::TASKS_DELETE)],
        "/tasks/{uid}" | "/tasks/{uid}/documents" | "/batches" | "/batches/{uid}" => reads(Action::TASKS_GET),
        "/tasks/cancel" => posts(Action::TASKS_CANCEL),
        "/keys" => [Some(Action::KEYS_GET), Some(Action::KEYS_CREATE), NONE, NONE, NONE],
        "/keys/{key}" => {
            [Some(Action::KEYS_GET), NONE, NONE, Some(Action::KEYS_UPDATE), Some(Action::KEYS_DELETE)]
        }
        "/version" => reads(Action::VERSION),
        "/metrics" => reads(Action::METRICS_GET),
        "/dumps" => posts(Action::DUMPS_CREATE),
        "/snapshots" => posts(Action::SNAPSHOTS_CREATE),
        "/export" => posts(Action::EXPORT),
        "/swap-indexes" => posts(Action::INDEXES_SWAP),
        "/experimental-features" => {
            [Some(Action::EXPERIMENTAL_GET), NONE, NONE, Some(Action::EXPERIMENTAL_UPDATE), NONE]
        }
        "/webhooks" => [Some(Action::WEBHOOKS_GET), Some(Action::WEBHOOKS_CREATE), NONE, NONE, NONE],
        "/webhooks/{uuid}" => {
            let (update, delete) = (Some(Action::WEBHOOKS_UPDATE), Some(Action::WEBHOOKS_DELETE));
            [Some(Action::WEBHOOKS_GET), NONE, NONE, update, delete]
        }
        "/network" => [Some(Action::NETWORK_GET), NONE, NONE, Some(Action::NETWORK_UPDATE), NONE],
        _ => return None,
    })
}
