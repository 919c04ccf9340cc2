//! The overlay while several changes are on their way, and after one has failed.
//!
//! The overlay held is that of the change accepted last, because the next one is judged by it. What it was before, the
//! settings that were committed tell; what each change makes of it, the `details` of its task. So a change that failed
//! is forgotten, and one that succeeded is shown, without those around it.

use serde_json::{Map, Value, json};

use super::{DISPLAYED, EMBEDDERS, FACETING, NodeNeeds, RANKING_RULES, full_node_form, translate};

/// What the overlay holds that settings and details tell as well. The rest is about embedders, whose secrets are not
/// shown; of that, what a failed change set stays.
const TOLD: [&str; 3] = [DISPLAYED, FACETING, RANKING_RULES];

/// The overlay of the settings that were committed last.
pub fn committed_overlay(user_settings: &Value, overlay: &Value) -> Value {
    let mut committed = overlay.as_object().cloned().unwrap_or_default();
    for name in TOLD {
        committed.remove(name);
        let shown = user_settings.get(name).filter(|value| **value != json!(["*"]));
        committed.extend(shown.map(|value| (name.to_owned(), value.clone())));
    }
    Value::Object(committed)
}

/// The overlay with one more change, of which the `details` of its task are given.
pub fn overlay_with_change(overlay: &Value, details: &Value, needs: NodeNeeds) -> Value {
    let mut changed = overlay.as_object().cloned().unwrap_or_default();
    let told = details.as_object().into_iter().flatten().filter(|(name, _)| TOLD.contains(&name.as_str()));
    let mut requested: Map<String, Value> = told.map(|(name, value)| (name.clone(), value.clone())).collect();
    translate(&mut requested, &mut changed, needs);
    Value::Object(changed)
}

/// The overlay with what another one holds about embedders.
pub fn overlay_with_embedders_of(overlay: &Value, other: &Value) -> Value {
    let mut merged = overlay.as_object().cloned().unwrap_or_default();
    merged.remove(EMBEDDERS);
    merged.extend(other.get(EMBEDDERS).map(|embedders| (EMBEDDERS.to_owned(), embedders.clone())));
    Value::Object(merged)
}

/// A node's settings, with as many values for each facet as what the user sees needs: a change of the order of facet
/// values may have been judged by one of their number that failed then, or the other way round.
pub fn with_facet_values_needed(node_settings: &Value, user_settings: &Value, needs: NodeNeeds) -> Value {
    const MAX_VALUES: &str = "/faceting/maxValuesPerFacet";
    let mut settings = node_settings.clone();
    let form = full_node_form(user_settings, &Value::Null, needs);
    if let (Some(held), Some(needed)) = (settings.pointer_mut(MAX_VALUES), form.pointer(MAX_VALUES)) {
        *held = needed.clone();
    }
    settings
}
