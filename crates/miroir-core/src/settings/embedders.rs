//! Embedders: the default document template, which would embed the hidden fields, and API keys, which nodes hide.
//!
//! The default template lists every searchable field with its value. Nodes get one that skips Miroir's own, and
//! users see the default. To know when a change leaves an embedder with the default, the overlay remembers of
//! each embedder its source, whose template it has, and its API key.

use serde_json::{Map, Value, json};

use super::EMBEDDERS;

/// Meilisearch's default template, the same in every supported version.
const DEFAULT_TEMPLATE: &str = "{% for field in fields %}{% if field.is_searchable and field.value != nil %}\
{{ field.name }}: {{ field.value }}\n{% endif %}{% endfor %}";
/// The same without Miroir's fields.
const NODE_TEMPLATE: &str = "{% for field in fields %}{% if field.is_searchable and field.value != nil \
and field.name != \"_miroir_shard\" and field.name != \"_miroir_inserted_at\" \
and field.name != \"_miroir_updated_at\" %}\
{{ field.name }}: {{ field.value }}\n{% endif %}{% endfor %}";

const SOURCE: &str = "source";
const TEMPLATE: &str = "documentTemplate";
const FRAGMENTS: &str = "indexingFragments";
const API_KEY: &str = "apiKey";
const PARTS: [&str; 2] = ["indexingEmbedder", "searchEmbedder"];

/// Translates `embedders` and records in the overlay what is needed to translate the next change.
pub(super) fn to_node(embedders: &mut Value, overlay: &mut Map<String, Value>) {
    if embedders.is_null() {
        overlay.remove(EMBEDDERS);
        return;
    }
    let Some(embedders) = embedders.as_object_mut() else { return };
    let mut held = overlay.get(EMBEDDERS).and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, config) in embedders {
        if config.is_null() {
            held.remove(name);
        } else if let Some(config) = config.as_object_mut() {
            let before = held.remove(name).unwrap_or(Value::Null);
            held.insert(name.clone(), embedder_to_node(config, &before, true));
        }
    }
    overlay.insert(EMBEDDERS.to_owned(), Value::Object(held));
}

/// Translates one embedder, given what was held about it, and returns what to hold from now on.
fn embedder_to_node(config: &mut Map<String, Value>, before: &Value, has_template: bool) -> Value {
    let source = match config.get(SOURCE) {
        Some(Value::String(source)) => source.clone(),
        Some(_) => "openAi".to_owned(),
        None => before[SOURCE].as_str().unwrap_or("openAi").to_owned(),
    };
    let mut after = Map::from_iter([(SOURCE.to_owned(), json!(source))]);

    let has_fragments = match config.get(FRAGMENTS) {
        Some(fragments) => !fragments.is_null(),
        None => source == "rest" && before[FRAGMENTS] == true,
    };
    if has_fragments {
        after.insert(FRAGMENTS.to_owned(), json!(true));
    }
    if has_template && source != "userProvided" && source != "composite" {
        let is_own = match config.get(TEMPLATE) {
            Some(template) => !template.is_null() && template != DEFAULT_TEMPLATE,
            None => before[TEMPLATE] == "own",
        };
        let is_given = config.contains_key(TEMPLATE) || before[TEMPLATE] != "default";
        if !is_own && is_given && !has_fragments {
            config.insert(TEMPLATE.to_owned(), json!(NODE_TEMPLATE));
        }
        // With fragments no template is in use, and none is given to nodes, until the fragments go.
        if !has_fragments || is_own || before[TEMPLATE] == "default" {
            after.insert(TEMPLATE.to_owned(), json!(if is_own { "own" } else { "default" }));
        }
    }
    match config.get(API_KEY).unwrap_or(&before[API_KEY]) {
        Value::Null => {}
        key => after.extend([(API_KEY.to_owned(), key.clone())]),
    }
    for part in PARTS {
        match config.get_mut(part) {
            Some(Value::Object(config)) => {
                let held = embedder_to_node(config, &before[part], part == "indexingEmbedder");
                after.insert(part.to_owned(), held);
            }
            Some(_) => {}
            None if source == "composite" && before[part].is_object() => {
                after.insert(part.to_owned(), before[part].clone());
            }
            None => {}
        }
    }
    Value::Object(after)
}

/// Shows the default template where nodes have ours.
pub(super) fn to_user(embedders: &mut Value) {
    let Some(embedders) = embedders.as_object_mut() else { return };
    for config in embedders.values_mut() {
        show_default_template(config);
        if let Some(part) = config.get_mut("indexingEmbedder") {
            show_default_template(part);
        }
    }
}

fn show_default_template(config: &mut Value) {
    if let Some(template) = config.get_mut(TEMPLATE)
        && template == NODE_TEMPLATE
    {
        *template = json!(DEFAULT_TEMPLATE);
    }
}

/// Puts the API keys back where a node shows redacted ones.
pub(super) fn restore_secrets(embedders: &mut Value, overlay: &Value) {
    let Some(embedders) = embedders.as_object_mut() else { return };
    for (name, config) in embedders {
        let held = &overlay[EMBEDDERS][name];
        restore_secret(config, held);
        for part in PARTS {
            if let Some(config) = config.get_mut(part) {
                restore_secret(config, &held[part]);
            }
        }
    }
}

fn restore_secret(config: &mut Value, held: &Value) {
    if let (Some(shown), Value::String(key)) = (config.get_mut(API_KEY), &held[API_KEY]) {
        *shown = json!(key);
    }
}

/// Redacts a secret as Meilisearch does.
pub fn redact(secret: &str) -> String {
    let (shown, mask) = match secret.len() {
        0..10 => (0, "XXX..."),
        10..20 => (2, "XXXX..."),
        20..30 => (3, "XXXXX..."),
        _ => (5, "XXXXXX..."),
    };
    let start = secret.get(..secret.ceil_char_boundary(shown)).unwrap_or_default();
    format!("{start}{mask}")
}

/// Redacts the API keys in the `embedders` of a change.
pub(super) fn redact_secrets(embedders: &mut Value) {
    let Some(embedders) = embedders.as_object_mut() else { return };
    for config in embedders.values_mut() {
        if let Some(Value::String(key)) = config.get_mut(API_KEY) {
            *key = redact(key);
        }
        for part in PARTS {
            if let Some(Value::String(key)) = config.get_mut(part).and_then(|part| part.get_mut(API_KEY)) {
                *key = redact(key);
            }
        }
    }
}
