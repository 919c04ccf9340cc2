//! Between the settings users set and the settings nodes hold.
//!
//! Nodes hold what users set plus what Miroir needs: hidden fields that can be filtered and sorted by, a last
//! ranking rule that breaks ties, facets long enough to be merged, a document template that leaves the hidden
//! fields out of the text to embed. Some settings users set are held by Miroir alone, in the *overlay*: the
//! displayed attributes (nodes must show everything to the merge), the number of values per facet (nodes give
//! the merge more), and the API keys of embedders, which nodes never show again. The ranking rules are there as
//! well, as last accepted, for the moment when one has to be added on a node.
//!
//! What Miroir cannot make sense of is passed through as it is, so that the error is the node's own.

mod details;
mod embedders;
mod faceting;
mod hash;
mod lists;
mod needs;
mod overlay;
mod routes;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use self::embedders::redact;
pub use self::hash::canonical_hash;
pub(crate) use self::lists::RULES_BEFORE_THE_USERS;
pub use self::lists::{default_ranking_rules, is_ours, ranking_rules_to_break_ties};
pub use self::needs::{NodeNeeds, breaks_ties};
pub use self::overlay::{
    committed_overlay, overlay_with_change, overlay_with_embedders_of, with_facet_values_needed,
};
pub use self::routes::{camel_case, kebab_case};
use crate::error::ApiError;

const DISPLAYED: &str = "displayedAttributes";
const SEARCHABLE: &str = "searchableAttributes";
const FILTERABLE: &str = "filterableAttributes";
const SORTABLE: &str = "sortableAttributes";
const RANKING_RULES: &str = "rankingRules";
const DISTINCT: &str = "distinctAttribute";
const FACETING: &str = "faceting";
const EMBEDDERS: &str = "embedders";

/// Which settings route was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsRoute {
    /// `/settings`.
    Whole,
    /// `/settings/{name}`, with the name as in the path: `ranking-rules`.
    Sub(String),
}

/// With which verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsMethod {
    /// `PATCH`.
    Patch,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// `POST`, which some old clients use.
    Post,
}

/// A change as a client sent it.
#[derive(Debug, Clone)]
pub struct SettingsChange<'a> {
    /// Which route.
    pub route: SettingsRoute,
    /// Which verb.
    pub method: SettingsMethod,
    /// The body, untouched.
    pub body: Option<&'a [u8]>,
}

/// What the translation depends on besides the change.
#[derive(Debug, Clone, Copy)]
pub struct SettingsContext<'a> {
    /// The overlay as last accepted; null when there is none yet.
    pub overlay: &'a Value,
    /// The settings as the user sees them ([`to_user`]): their names are those that a reset of everything
    /// resets, whatever the nodes' version.
    pub user_settings: &'a Value,
    /// What the nodes of the index need.
    pub needs: NodeNeeds,
}

/// A change as nodes are to be sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeChange {
    /// The verb.
    pub method: SettingsMethod,
    /// What follows `/settings`: nothing, or `/ranking-rules`.
    pub path_suffix: String,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// The overlay once the change is accepted.
    pub overlay: Value,
    /// The `details` of the task, with secrets redacted.
    pub details: Value,
}

/// Translates a change for the nodes. Fails only when it names a field that is Miroir's own.
pub fn to_node(change: &SettingsChange<'_>, context: &SettingsContext<'_>) -> Result<NodeChange, ApiError> {
    let Some(requested) = requested_settings(change, context) else {
        return Ok(unchanged(change, context));
    };
    lists::refuse_reserved_names(&requested)?;

    let mut sent = requested.clone();
    let mut overlay = context.overlay.as_object().cloned().unwrap_or_default();
    translate(&mut sent, &mut overlay, context.needs);

    let mut node_change = match &change.route {
        SettingsRoute::Sub(_) if sent == requested => unchanged(change, context),
        SettingsRoute::Sub(name) => sub_route_change(name, change.method, &sent),
        SettingsRoute::Whole => send(
            if change.method == SettingsMethod::Delete { SettingsMethod::Patch } else { change.method },
            "",
            &sent,
        ),
    };
    node_change.overlay = Value::Object(overlay);
    node_change.details = details::task_details(&requested);
    Ok(node_change)
}

/// The settings a change sets, null for those it resets; `None` when it is not a settings object, which is for
/// the node to say.
fn requested_settings(
    change: &SettingsChange<'_>,
    context: &SettingsContext<'_>,
) -> Option<Map<String, Value>> {
    if let SettingsRoute::Sub(name) = &change.route {
        let value = match change.method {
            SettingsMethod::Delete => Value::Null,
            _ => serde_json::from_slice(change.body?).ok()?,
        };
        return Some(Map::from_iter([(camel_case(name), value)]));
    }
    if change.method == SettingsMethod::Delete {
        let shown = context.user_settings.as_object();
        let names = shown.into_iter().flat_map(|settings| settings.keys().map(String::as_str));
        let names = routes::BASE_SETTINGS.iter().copied().chain(names);
        let unshown = routes::settings_not_shown(context.needs.version);
        return Some(
            names.chain(unshown.iter().copied()).map(|name| (name.to_owned(), Value::Null)).collect(),
        );
    }
    match serde_json::from_slice(change.body?).ok()? {
        Value::Object(settings) => Some(settings),
        _ => None,
    }
}

/// Turns what the user asks for into what nodes are asked for, and records in the overlay what only Miroir holds.
fn translate(settings: &mut Map<String, Value>, overlay: &mut Map<String, Value>, needs: NodeNeeds) {
    lists::keep_ranking_rules(settings, overlay, needs.version);
    lists::add_hidden(settings, needs);
    if let Some(displayed) = settings.get_mut(DISPLAYED)
        && let Some(list) = lists::displayed_to_keep(displayed)
    {
        *displayed = json!(["*"]);
        overlay.remove(DISPLAYED);
        overlay.extend(list.map(|list| (DISPLAYED.to_owned(), list)));
    }
    if let Some(faceting) = settings.get_mut(FACETING) {
        faceting::to_node(faceting, overlay, needs.merges);
    }
    if let Some(embedders) = settings.get_mut(EMBEDDERS) {
        embedders::to_node(embedders, overlay);
    }
}

fn sub_route_change(name: &str, method: SettingsMethod, sent: &Map<String, Value>) -> NodeChange {
    let value = sent.values().next().unwrap_or(&Value::Null);
    if camel_case(name) == DISPLAYED {
        // Nodes always show everything. Saying so again changes nothing, but makes the task that is expected.
        return send(SettingsMethod::Patch, "", sent);
    }
    // What is reset still holds what Miroir needs, and is set with the verb the route has for that.
    let method = match method {
        SettingsMethod::Delete if camel_case(name) == FACETING => SettingsMethod::Patch,
        SettingsMethod::Delete => SettingsMethod::Put,
        other => other,
    };
    send(method, &format!("/{name}"), value)
}

fn send(method: SettingsMethod, path_suffix: &str, body: &impl serde::Serialize) -> NodeChange {
    NodeChange {
        method,
        path_suffix: path_suffix.to_owned(),
        // JSON values with text keys can always be written.
        body: serde_json::to_vec(body).ok(),
        overlay: Value::Null,
        details: Value::Null,
    }
}

fn unchanged(change: &SettingsChange<'_>, context: &SettingsContext<'_>) -> NodeChange {
    let path_suffix = match &change.route {
        SettingsRoute::Whole => String::new(),
        SettingsRoute::Sub(name) => format!("/{name}"),
    };
    NodeChange {
        method: change.method,
        path_suffix,
        body: change.body.map(<[u8]>::to_vec),
        overlay: context.overlay.clone(),
        details: json!({}),
    }
}

/// The settings as users see them, from what a node shows and the overlay.
pub fn to_user(node_settings: &Value, overlay: &Value) -> Value {
    let mut settings = node_settings.clone();
    let Some(shown) = settings.as_object_mut() else { return settings };
    lists::remove_hidden(shown);
    if let Some(displayed) = shown.get_mut(DISPLAYED) {
        *displayed = overlay.get(DISPLAYED).cloned().unwrap_or_else(|| json!(["*"]));
    }
    if let Some(faceting) = shown.get_mut(FACETING) {
        faceting::to_user(faceting, overlay);
    }
    if let Some(embedders) = shown.get_mut(EMBEDDERS) {
        embedders::to_user(embedders);
    }
    settings
}

/// The settings as users see them, with the secrets that they are not shown: for a dump.
pub fn with_secrets(user_settings: &Value, overlay: &Value) -> Value {
    let mut settings = user_settings.clone();
    if let Some(embedders) = settings.get_mut(EMBEDDERS) {
        embedders::restore_secrets(embedders, overlay);
    }
    settings
}

/// The body of a `PATCH /settings` that gives a fresh index on a node the settings a user sees: for a new
/// replica. For an index that has settings already there is [`repair_node_form`].
pub fn full_node_form(user_settings: &Value, overlay: &Value, needs: NodeNeeds) -> Value {
    let mut settings = user_settings.as_object().cloned().unwrap_or_default();
    for name in [FILTERABLE, SORTABLE, RANKING_RULES, FACETING] {
        settings.entry(name).or_insert(Value::Null);
    }
    if let Some(embedders) = settings.get_mut(EMBEDDERS) {
        embedders::restore_secrets(embedders, overlay);
    }
    // Everything is given, so the overlay that results from it is the one there is.
    translate(&mut settings, &mut Map::new(), needs);
    Value::Object(settings)
}

/// The same for an index that shows `found` at `GET /settings`: what it has too much is reset.
pub fn repair_node_form(user_settings: &Value, overlay: &Value, needs: NodeNeeds, found: &Value) -> Value {
    let mut form = full_node_form(user_settings, overlay, needs);
    reset_surplus(&mut form, found);
    // Embedders are changed one by one, unlike other settings: those not named stay.
    if let (Some(embedders), Some(found)) = (form.get_mut(EMBEDDERS), found.get(EMBEDDERS)) {
        reset_surplus(embedders, found);
    }
    form
}

fn reset_surplus(form: &mut Value, found: &Value) {
    let (Some(form), Some(found)) = (form.as_object_mut(), found.as_object()) else { return };
    for name in found.keys() {
        form.entry(name).or_insert(Value::Null);
    }
}

/// The body of a `PATCH /settings` that resets what documents may be against: the attributes to filter and sort by, and
/// embedders, if they are meant too.
pub fn reset_form(needs: NodeNeeds, embedders_too: bool) -> Value {
    let names = [FILTERABLE, SORTABLE].into_iter().chain(embedders_too.then_some(EMBEDDERS));
    let mut settings = names.map(|name| (name.to_owned(), Value::Null)).collect();
    translate(&mut settings, &mut Map::new(), needs);
    Value::Object(settings)
}

/// The body of the `PATCH /settings` to send to a node right after creating an index there.
pub fn default_node_settings(needs: NodeNeeds) -> Value {
    full_node_form(&json!({}), &Value::Null, needs)
}
