//! Error messages of nodes, as one Meilisearch without hidden fields would have written them.
//!
//! Messages list the attributes an index has, hidden ones among them, and number the rules of
//! `filterableAttributes`, of which Miroir's comes first. Nodes display every attribute, so they also list
//! attributes that the user's `displayedAttributes` would have left out.

use std::collections::BTreeSet;

use crate::hidden::{RESERVED_PREFIX, is_reserved};
use crate::settings::RULES_BEFORE_THE_USERS;

/// How a kind of message lists attributes.
struct ListForm {
    /// What comes before the list.
    introduction: &'static str,
    /// What stands between two attributes.
    separator: &'static str,
    /// What is written instead of introduction and list when the list is empty.
    when_empty: Option<&'static str>,
    /// Whether attributes that are not displayed are left out, with a note that there are some.
    only_displayed: fn(code: &str, message: &str) -> bool,
}

const NO_FILTERABLE: &str = "This index does not have configured filterable attributes.";

const LIST_FORMS: [ListForm; 5] = [
    ListForm {
        introduction: "Available filterable attribute patterns are: ",
        separator: "`, `",
        when_empty: Some(NO_FILTERABLE),
        only_displayed: |_, _| false,
    },
    ListForm {
        introduction: "Available filterable attributes patterns are: ",
        separator: ", ",
        when_empty: Some(NO_FILTERABLE),
        only_displayed: |_, message| message.contains("cannot be used as distinct attribute"),
    },
    ListForm {
        introduction: "Available facet-searchable attributes patterns are: ",
        separator: ", ",
        when_empty: Some("This index does not have configured facet-searchable attributes."),
        only_displayed: |_, _| true,
    },
    ListForm {
        introduction: "Available sortable attributes are: ",
        separator: ", ",
        when_empty: Some("This index does not have configured sortable attributes."),
        only_displayed: |code, _| !code.starts_with("invalid_document"),
    },
    ListForm {
        introduction: "Available searchable attributes are: ",
        separator: ", ",
        when_empty: None,
        only_displayed: |_, _| true,
    },
];

/// The message to show for an error a node answered with, given the error's code and the attributes the user
/// lets be displayed, `None` for all.
pub fn rewrite(code: &str, message: &str, displayed: Option<&[String]>) -> String {
    let mut shown = message.to_owned();
    if let Some(listed) = rewrite_list(code, &shown, displayed) {
        shown = listed;
    }
    if let Some(numbered) = renumber_rules(code, &shown) {
        shown = numbered;
    }
    strip_members(shown)
}

fn rewrite_list(code: &str, message: &str, displayed: Option<&[String]>) -> Option<String> {
    let (form, start) = LIST_FORMS.iter().find_map(|form| Some((form, message.find(form.introduction)?)))?;
    let list_start = start + form.introduction.len() + 1;
    let list_length = message.get(list_start..)?.find("`.")?;
    let (list, after) = message.get(list_start..)?.split_at(list_length);
    let after = after.strip_prefix("`.")?;

    let attributes: BTreeSet<&str> =
        list.split(form.separator).filter(|name| !name.is_empty() && !is_reserved(name)).collect();
    let displayed = displayed.filter(|_| (form.only_displayed)(code, message));
    let is_shown = |name: &str| displayed.is_none_or(|displayed| displayed.iter().any(|shown| shown == name));
    let shown: Vec<&str> = attributes.iter().copied().filter(|name| is_shown(name)).collect();
    let note = if shown.len() < attributes.len() { ", <..hidden-attributes>" } else { "" };
    let sentence = match form.when_empty {
        Some(sentence) if shown.is_empty() => sentence.to_owned(),
        _ => format!("{}`{}{note}`.", form.introduction, shown.join(form.separator)),
    };
    Some(format!("{}{sentence}{after}", &message[..start]))
}

/// Lowers the numbers of the rules of `filterableAttributes`, in messages about them.
fn renumber_rules(code: &str, message: &str) -> Option<String> {
    if message.contains("filterableAttributes") && message.contains("rule #") {
        return Some(lower_numbers(message, "rule #", usize::MAX));
    }
    // A setting of the wrong type is pointed at: `.filterableAttributes[2]`, or `[2]` on its own route.
    if code != "invalid_settings_filterable_attributes" {
        return None;
    }
    let in_whole = "`.filterableAttributes[";
    // What was found instead may follow, and may be a list as well.
    Some(lower_numbers(message, if message.contains(in_whole) { in_whole } else { "`[" }, 1))
}

/// Lowers the first numbers that follow `introduction`, at most `limit`, by the number of rules that are Miroir's.
fn lower_numbers(message: &str, introduction: &str, limit: usize) -> String {
    let mut pieces = message.splitn(limit.saturating_add(1), introduction);
    let mut lowered = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|character: char| !character.is_ascii_digit()).unwrap_or(piece.len());
        lowered.push_str(introduction);
        match piece[..digits].parse::<u64>() {
            Ok(number) => lowered.push_str(&number.saturating_sub(RULES_BEFORE_THE_USERS).to_string()),
            Err(_) => lowered.push_str(&piece[..digits]),
        }
        lowered.push_str(&piece[digits..]);
    }
    lowered
}

/// Removes the hidden fields of a document that a message quotes as JSON. Their values hold no quotes.
fn strip_members(mut message: String) -> String {
    let member = format!("\"{RESERVED_PREFIX}");
    while let Some(mut start) = message.find(&member) {
        // The fourth quote closes the value.
        let Some((last, _)) = message[start..].match_indices('"').nth(3) else { break };
        let mut end = start + last + 1;
        if message[..start].ends_with(',') {
            start -= 1;
        } else if message[end..].starts_with(',') {
            end += 1;
        }
        message.replace_range(start..end, "");
    }
    message
}

/// What stands before the name of an index in a message.
const BEFORE_INDEX_NAMES: [&str; 2] = ["ndex `", "facetsByIndex."];

/// The message with what nodes call indexes replaced by what clients call them, given as pairs.
pub fn rename_indexes(message: &str, names: &[(&str, &str)]) -> String {
    let mut renamed = String::with_capacity(message.len());
    let mut rest = message;
    let first = |text: &str| {
        let found = BEFORE_INDEX_NAMES.iter().filter_map(|before| Some(text.find(before)? + before.len()));
        found.min()
    };
    while let Some((before, after)) = first(rest).and_then(|end| rest.split_at_checked(end)) {
        renamed.push_str(before);
        let is_in_name = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        let length = after.find(|character| !is_in_name(character)).unwrap_or(after.len());
        let (name, left) = after.split_at_checked(length).unwrap_or((after, ""));
        let known = names.iter().find(|(on_nodes, _)| *on_nodes == name);
        renamed.push_str(known.map_or(name, |(_, to_clients)| to_clients));
        rest = left;
    }
    renamed.push_str(rest);
    renamed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(code: &str, message: &str) -> String {
        rewrite(code, message, Some(&["title".to_owned(), "price".to_owned()]))
    }

    #[test]
    fn indexes_are_called_as_clients_call_them() {
        let names = [("a", "b"), ("b", "a"), ("_miroir_1", "films")];
        for (said, shown) in [
            ("Index `a`: Attribute `a` is not filterable.", "Index `b`: Attribute `a` is not filterable."),
            (
                "Inside `.queries[1]`: Index `_miroir_1` not found.",
                "Inside `.queries[1]`: Index `films` not found.",
            ),
            (
                "Inside `.federation.facetsByIndex.a`: x\n - Note: index `b` is not used",
                "Inside `.federation.facetsByIndex.b`: x\n - Note: index `a` is not used",
            ),
            ("Index `c`: é", "Index `c`: é"),
            ("Index `", "Index `"),
        ] {
            assert_eq!(rename_indexes(said, &names), shown);
        }
    }

    #[test]
    fn hidden_attributes_leave_every_list() {
        let cases = [
            (
                "invalid_search_filter",
                "Attribute `x` is not filterable. Available filterable attribute patterns are: \
                 `_miroir_inserted_at`, `_miroir_shard`, `a`, `z`.\n1:2 x = 1",
                "Attribute `x` is not filterable. Available filterable attribute patterns are: `a`, `z`.\n1:2 x = 1",
            ),
            (
                "invalid_search_filter",
                "Attribute `x` is not filterable. Available filterable attribute patterns are: \
                 `_miroir_inserted_at`, `_miroir_shard`.\n1:2 x = 1",
                "Attribute `x` is not filterable. This index does not have configured filterable attributes.\n1:2 x = 1",
            ),
            (
                "invalid_search_facets",
                "Attributes `x, y` are not filterable. Available filterable attributes patterns are: \
                 `_miroir_inserted_at, _miroir_shard, secret`.",
                "Attributes `x, y` are not filterable. Available filterable attributes patterns are: `secret`.",
            ),
            (
                "invalid_search_sort",
                "Inside `.queries[1]`: Attribute `x` is not sortable. Available sortable attributes are: \
                 `_miroir_inserted_at, price, secret`.",
                "Inside `.queries[1]`: Attribute `x` is not sortable. Available sortable attributes are: \
                 `price, <..hidden-attributes>`.",
            ),
            (
                "invalid_search_sort",
                "Attribute `x` is not sortable. Available sortable attributes are: `_miroir_inserted_at, secret`.",
                "Attribute `x` is not sortable. This index does not have configured sortable attributes.",
            ),
            (
                "invalid_document_sort",
                "Attribute `x` is not sortable. Available sortable attributes are: `_miroir_inserted_at, secret`.",
                "Attribute `x` is not sortable. Available sortable attributes are: `secret`.",
            ),
        ];
        for (code, message, expected) in cases {
            assert_eq!(shown(code, message), expected);
        }
    }

    #[test]
    fn rules_keep_the_numbers_users_gave_them() {
        let message =
            "Attribute `x` matched rule #3 in filterableAttributes, but\nHint: enable in rule #3 by";
        let expected =
            "Attribute `x` matched rule #2 in filterableAttributes, but\nHint: enable in rule #2 by";
        assert_eq!(shown("invalid_search_facets", message), expected);
        let code = "invalid_settings_filterable_attributes";
        let in_whole = "Invalid value type at `.filterableAttributes[1]`: expected a string, but found `[4]`";
        let expected = "Invalid value type at `.filterableAttributes[0]`: expected a string, but found `[4]`";
        assert_eq!(shown(code, in_whole), expected);
        let on_its_own =
            "Invalid value type at `[1].features`: expected an object, but found an array: `[4]`";
        let expected = "Invalid value type at `[0].features`: expected an object, but found an array: `[4]`";
        assert_eq!(shown(code, on_its_own), expected);
        let unrelated = "Invalid value type at `.sortableAttributes[1]`, rule #4";
        assert_eq!(shown("invalid_settings_sortable_attributes", unrelated), unrelated);
    }

    #[test]
    fn documents_in_messages_lose_their_hidden_fields() {
        let document = r#"`{"a":1,"_miroir_shard":"!!!%","b":{"c":2},"_miroir_inserted_at":"!!,/}"}`."#;
        assert_eq!(shown("missing_document_id", document), r#"`{"a":1,"b":{"c":2}}`."#);
        let first = r#"`{"_miroir_shard":"!!!%","b":2}`"#;
        assert_eq!(shown("missing_document_id", first), r#"`{"b":2}`"#);
    }

    proptest! {
        #[test]
        fn other_messages_are_left_alone(message in "[a-z`#.,:\\[\\]\"{}0-9 ]{0,60}") {
            prop_assert_eq!(rewrite("internal", &message, None), message);
        }

        #[test]
        fn anything_can_be_read(
            middle in "(`|,|\\.|\"| |_miroir_shard|rule #|é|[0-9]){0,20}",
            form in 0..LIST_FORMS.len(),
        ) {
            let introduction = LIST_FORMS[form].introduction;
            let message = format!("{introduction}{middle} filterableAttributes");
            rewrite("invalid_settings_filterable_attributes", &message, None);
        }
    }
}
