//! A node's refusal, as one Meilisearch with the user's settings would have put it.
//!
//! Messages about attributes list those that would do. On a node that list has Miroir's own fields in it, and all
//! attributes where the user's `displayedAttributes` would have hidden some.

use serde_json::Value;

use super::settings::SearchSettings;
use crate::hidden::is_reserved;

/// What Meilisearch writes in place of attributes that are not displayed.
const HIDDEN_ATTRIBUTES: &str = ", <..hidden-attributes>";

/// Rewrites the body of an error answer to a search for the client. What is not such a body stays as it is.
pub fn finish_error(answer: &[u8], settings: &SearchSettings) -> Vec<u8> {
    let rewritten = || {
        let mut error: Value = serde_json::from_slice(answer).ok()?;
        let message = rewrite_message(error["message"].as_str()?, settings)?;
        *error.get_mut("message")? = Value::String(message);
        serde_json::to_vec(&error).ok()
    };
    rewritten().unwrap_or_else(|| answer.to_vec())
}

/// `None` when the message lists nothing.
fn rewrite_message(message: &str, settings: &SearchSettings) -> Option<String> {
    let (before, rest) = message.split_once("Available ")?;
    let (kind, rest) = rest.split_once(" attribute")?;
    let (middle, rest) = rest.split_once(" are: `")?;
    let (list, after) = rest.split_once("`.")?;

    let separator = if list.contains("`, `") { "`, `" } else { ", " };
    let names = || list.split(separator).filter(|name| !is_reserved(name));
    // Lists of filterable attributes hide nothing, except when it is about the distinct attribute.
    let may_hide = kind != "filterable" || before.contains("distinct");
    let displayed = settings.displayed.as_ref().filter(|_| may_hide);
    let is_shown =
        |name: &&str| displayed.is_none_or(|displayed| displayed.iter().any(|shown| shown == name));
    let shown: Vec<&str> = names().filter(is_shown).collect();
    let hidden = if names().all(|name| is_shown(&name)) { "" } else { HIDDEN_ATTRIBUTES };

    if shown.is_empty() && kind != "searchable" {
        return Some(format!("{before}This index does not have configured {kind} attributes.{after}"));
    }
    let list = shown.join(separator);
    Some(format!("{before}Available {kind} attribute{middle} are: `{list}{hidden}`.{after}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rewritten(message: &str, displayed: &[&str]) -> String {
        let settings = SearchSettings::from_settings(&json!({ "displayedAttributes": displayed }));
        let answer = json!({ "message": message, "code": "x" }).to_string();
        let error: Value = serde_json::from_slice(&finish_error(answer.as_bytes(), &settings)).unwrap();
        assert_eq!(error["code"], "x");
        error["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn reserved_names_leave_both_forms_of_lists() {
        assert_eq!(
            rewritten(
                "Attribute `foo` is not filterable. Available filterable attributes patterns are: `_geo, _miroir_inserted_at, _miroir_shard, g`.",
                &["*"]
            ),
            "Attribute `foo` is not filterable. Available filterable attributes patterns are: `_geo, g`."
        );
        assert_eq!(
            rewritten(
                "Index `u`: Attribute `foo` is not filterable. Available filterable attribute patterns are: `_miroir_shard`, `a.b`, `g`.\n1:4 foo=1",
                &["g"]
            ),
            "Index `u`: Attribute `foo` is not filterable. Available filterable attribute patterns are: `a.b`, `g`.\n1:4 foo=1"
        );
    }

    #[test]
    fn an_empty_list_is_said_in_words() {
        assert_eq!(
            rewritten(
                "Index `u`: Attribute `n` is not sortable. Available sortable attributes are: `_miroir_inserted_at`.",
                &["*"]
            ),
            "Index `u`: Attribute `n` is not sortable. This index does not have configured sortable attributes."
        );
    }

    #[test]
    fn attributes_not_displayed_are_hidden_where_meilisearch_hides_them() {
        let message =
            "Attribute `z` is not sortable. Available sortable attributes are: `_miroir_inserted_at, a, b`.";
        assert_eq!(
            rewritten(message, &["a"]),
            "Attribute `z` is not sortable. Available sortable attributes are: `a, <..hidden-attributes>`."
        );
        assert_eq!(
            rewritten(message, &["a", "b"]),
            "Attribute `z` is not sortable. Available sortable attributes are: `a, b`."
        );
    }

    #[test]
    fn any_other_answer_stays_as_it_is() {
        for answer in [&br#"{ "message": "Index `x` not found." }"#[..], b"[1]", b"<html>"] {
            assert_eq!(finish_error(answer, &SearchSettings::default()), answer);
        }
    }
}
