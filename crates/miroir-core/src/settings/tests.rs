//! Translation there and back, for many changes. What real nodes make of it is tested with real nodes.

use proptest::prelude::*;

use super::*;
use crate::hidden::{INSERTED_AT_FIELD, SHARD_FIELD, TIE_BREAK_RULE};

/// An index over several nodes from which documents were deleted: everything is needed.
const NEEDS: NodeNeeds = NodeNeeds { version: (1, 21), merges: true, breaks_ties: true };

fn apply(route: &str, method: SettingsMethod, body: &Value, overlay: &Value) -> NodeChange {
    try_apply(route, method, body, overlay).unwrap()
}

fn try_apply(
    route: &str,
    method: SettingsMethod,
    body: &Value,
    overlay: &Value,
) -> Result<NodeChange, ApiError> {
    let bytes = body.to_string();
    let route = match route {
        "" => SettingsRoute::Whole,
        name => SettingsRoute::Sub(name.to_owned()),
    };
    let body = (method != SettingsMethod::Delete).then_some(bytes.as_bytes());
    let context = SettingsContext { overlay, user_settings: &json!({"newer": 1}), needs: NEEDS };
    to_node(&SettingsChange { route, method, body }, &context)
}

fn body_of(change: &NodeChange) -> Value {
    serde_json::from_slice(change.body.as_deref().unwrap()).unwrap()
}

fn ours() -> Value {
    default_node_settings(NEEDS)[FILTERABLE][0].clone()
}

#[test]
fn a_new_index_gets_what_miroir_needs_and_nothing_else() {
    let rules = ["words", "typo", "proximity", "attribute", "sort", "exactness", TIE_BREAK_RULE];
    let expected = json!({
        FILTERABLE: [ours()],
        SORTABLE: [INSERTED_AT_FIELD],
        RANKING_RULES: rules,
        FACETING: {"maxValuesPerFacet": 3000, "sortFacetValuesBy": null},
    });
    assert_eq!(default_node_settings(NEEDS), expected);
    assert_eq!(ours()["attributePatterns"], json!([SHARD_FIELD, INSERTED_AT_FIELD]));
    let newer = &default_node_settings(NodeNeeds { version: (1, 50), ..NEEDS })[RANKING_RULES];
    assert_eq!((&newer[3], &newer[7]), (&json!("attributeRank"), &json!(TIE_BREAK_RULE)));
}

#[test]
fn what_costs_time_is_left_out_where_it_is_not_needed() {
    let least = default_node_settings(NodeNeeds { merges: false, breaks_ties: false, ..NEEDS });
    let rules = json!(["words", "typo", "proximity", "attribute", "sort", "exactness"]);
    assert_eq!(least[RANKING_RULES], rules);
    assert_eq!(least[FACETING], json!({"maxValuesPerFacet": null, "sortFacetValuesBy": null}));
    assert!(!breaks_ties(&least) && breaks_ties(&default_node_settings(NEEDS)));

    let merged = default_node_settings(NodeNeeds { breaks_ties: false, ..NEEDS });
    assert_eq!(canonical_hash(&merged), canonical_hash(&default_node_settings(NEEDS)));
}

#[test]
fn the_rule_that_breaks_ties_is_added_to_the_rules_last_accepted() {
    let to_break_ties = |overlay: &Value| ranking_rules_to_break_ties(overlay, &json!({}), NEEDS.version);
    assert_eq!(to_break_ties(&Value::Null), default_node_settings(NEEDS)[RANKING_RULES]);
    let change = apply("ranking-rules", SettingsMethod::Put, &json!(["words", "sort"]), &Value::Null);
    assert_eq!(to_break_ties(&change.overlay), json!(["words", "sort", TIE_BREAK_RULE]));
    let made_with = json!({RANKING_RULES: ["words", "attribute"]});
    assert_eq!(
        ranking_rules_to_break_ties(&json!({}), &made_with, (1, 50)),
        json!(["words", "attribute", TIE_BREAK_RULE]),
        "the rules an index was made with, not the defaults of newer nodes"
    );
    let other = apply("stop-words", SettingsMethod::Put, &json!(["the"]), &change.overlay);
    assert_eq!(to_break_ties(&other.overlay), json!(["words", "sort", TIE_BREAK_RULE]));
    let reset = apply("ranking-rules", SettingsMethod::Delete, &Value::Null, &other.overlay);
    assert_eq!(to_break_ties(&reset.overlay), default_node_settings(NEEDS)[RANKING_RULES]);
    let shown = json!({RANKING_RULES: ["typo"]});
    assert_eq!(to_break_ties(&committed_overlay(&shown, &change.overlay)), json!(["typo", TIE_BREAK_RULE]));
}

#[test]
fn lists_get_our_entries_where_they_belong() {
    let everything = json!({"attributePatterns": ["*"], "features": {"facetSearch": true}});
    let body = json!({
        FILTERABLE: ["genre", everything],
        SORTABLE: ["price"],
        RANKING_RULES: ["words", "price:asc"],
    });
    let expected = json!({
        FILTERABLE: [ours(), "genre", everything],
        SORTABLE: ["price", INSERTED_AT_FIELD],
        RANKING_RULES: ["words", "price:asc", TIE_BREAK_RULE],
    });
    let change = apply("", SettingsMethod::Patch, &body, &Value::Null);
    assert_eq!((change.method, change.path_suffix.as_str()), (SettingsMethod::Patch, ""));
    assert_eq!(body_of(&change), expected);
}

#[test]
fn a_deleted_list_becomes_one_with_our_entries() {
    let change = apply("ranking-rules", SettingsMethod::Delete, &Value::Null, &Value::Null);
    assert_eq!((change.method, change.path_suffix.as_str()), (SettingsMethod::Put, "/ranking-rules"));
    assert_eq!(body_of(&change), default_node_settings(NEEDS)[RANKING_RULES]);
    assert_eq!(change.details, json!({RANKING_RULES: null}));

    let change = apply("stop-words", SettingsMethod::Delete, &Value::Null, &Value::Null);
    assert_eq!((change.method, change.body), (SettingsMethod::Delete, None));
}

#[test]
fn deleting_everything_resets_what_nodes_show_and_keeps_our_entries() {
    let overlay = json!({DISPLAYED: ["a"], FACETING: {"maxValuesPerFacet": 3}, EMBEDDERS: {"e": {}}});
    let change = apply("", SettingsMethod::Delete, &Value::Null, &overlay);
    assert_eq!((change.method, change.path_suffix.as_str()), (SettingsMethod::Patch, ""));
    let body = body_of(&change);
    for name in [FILTERABLE, SORTABLE, RANKING_RULES, FACETING] {
        assert_eq!(body[name], default_node_settings(NEEDS)[name]);
    }
    assert_eq!(body[DISPLAYED], json!(["*"]));
    for name in ["stopWords", "embedders", "prefixSearch", "chat", "newer"] {
        assert_eq!(body.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(change.overlay, json!({RANKING_RULES: default_ranking_rules(NEEDS.version)}));
}

#[test]
fn displayed_attributes_stay_with_miroir() {
    let list = json!(["b", "a", "b"]);
    for (route, body) in [("displayed-attributes", list.clone()), ("", json!({DISPLAYED: list}))] {
        let change = apply(route, SettingsMethod::Put, &body, &Value::Null);
        assert_eq!((body_of(&change), change.path_suffix.as_str()), (json!({DISPLAYED: ["*"]}), ""));
        assert_eq!(change.overlay, json!({DISPLAYED: ["b", "a"]}));
        assert_eq!(change.details, json!({DISPLAYED: list}));
        assert_eq!(to_user(&json!({DISPLAYED: ["*"]}), &change.overlay), json!({DISPLAYED: ["b", "a"]}));
        for all in [json!(["a", "*"]), Value::Null] {
            let shown = apply("displayed-attributes", SettingsMethod::Put, &all, &change.overlay);
            assert_eq!(shown.overlay, json!({}));
        }
        // A wrong type goes to the node, which says so.
        let wrong = apply("displayed-attributes", SettingsMethod::Put, &json!(["a", 3]), &change.overlay);
        assert_eq!((body_of(&wrong), wrong.path_suffix.as_str()), (json!(["a", 3]), "/displayed-attributes"));
        assert_eq!(wrong.overlay, change.overlay);
    }
}

#[test]
fn what_is_not_understood_goes_to_the_node_as_it_is() {
    let context = SettingsContext { overlay: &Value::Null, user_settings: &Value::Null, needs: NEEDS };
    let sub = |name: &str| SettingsRoute::Sub(name.to_owned());
    for (route, body) in [
        (SettingsRoute::Whole, &b"{\"a"[..]),
        (SettingsRoute::Whole, b"3"),
        (sub("ranking-rules"), b"{\"a"),
        (sub("ranking-rules"), b" \"words\" "),
        (sub("brand-new"), b"[ 1 ]"),
        (sub("stop-words"), b"[ \"a\" ]"),
    ] {
        let change = SettingsChange { route, method: SettingsMethod::Put, body: Some(body) };
        assert_eq!(to_node(&change, &context).unwrap().body.as_deref(), Some(body));
    }
}

#[test]
fn our_names_are_refused_wherever_a_field_is_named() {
    for body in [
        json!({FILTERABLE: ["a", "_miroir_shard"]}),
        json!({FILTERABLE: [{"attributePatterns": ["a", "_miroir_*"]}]}),
        json!({SORTABLE: ["_miroir_inserted_at"]}),
        json!({RANKING_RULES: ["words", "_miroir_inserted_at:desc"]}),
        json!({SEARCHABLE: ["_miroir_anything"]}),
        json!({DISPLAYED: ["_miroir_shard"]}),
        json!({DISTINCT: "_miroir_shard"}),
    ] {
        let refused = try_apply("", SettingsMethod::Patch, &body, &Value::Null).unwrap_err();
        assert_eq!((refused.status, &*refused.code), (400, "miroir_reserved_field"), "{body}");
        let (name, value) = body.as_object().unwrap().iter().next().unwrap();
        let refused = try_apply(&kebab_case(name), SettingsMethod::Put, value, &Value::Null);
        assert!(refused.is_err(), "{body}");
    }
    let fine = json!({FILTERABLE: ["_miroir"], "stopWords": ["_miroir_shard"], SORTABLE: ["x_miroir_y"]});
    assert!(try_apply("", SettingsMethod::Patch, &fine, &Value::Null).is_ok());
}

/// Applies changes to `faceting` one after the other; the value nodes have and the value the user sees.
fn facets_after(changes: &[Value]) -> (Value, Value) {
    let mut overlay = Value::Null;
    let mut node = default_node_settings(NEEDS);
    for change in changes {
        // Null stands for a reset.
        let method = if change.is_null() { SettingsMethod::Delete } else { SettingsMethod::Patch };
        let change = apply("faceting", method, change, &overlay);
        assert_eq!((change.method, &*change.path_suffix), (SettingsMethod::Patch, "/faceting"));
        for (name, value) in body_of(&change).as_object().unwrap() {
            node[FACETING][name] = value.clone();
        }
        overlay = change.overlay;
    }
    let user = to_user(&node, &overlay);
    let replica = full_node_form(&user, &overlay, NEEDS);
    assert_eq!(replica[FACETING], node[FACETING], "{changes:?}");
    assert_eq!(with_facet_values_needed(&node, &user, NEEDS), node, "{changes:?}");
    let mut judged_wrong = node.clone();
    judged_wrong[FACETING]["maxValuesPerFacet"] = json!(17);
    assert_eq!(with_facet_values_needed(&judged_wrong, &user, NEEDS), node, "{changes:?}");
    let restored = committed_overlay(&user, &json!({FACETING: {"maxValuesPerFacet": 1}}));
    assert_eq!(to_user(&node, &restored), user, "{changes:?}");
    let max = |settings: &Value| settings[FACETING]["maxValuesPerFacet"].clone();
    (max(&node), max(&user))
}

#[test]
fn nodes_list_enough_facet_values_to_merge() {
    let by = |order: &str| json!({"sortFacetValuesBy": {"a": order}});
    let max = |max: Value| json!({"maxValuesPerFacet": max});
    for (changes, node, user) in [
        (vec![], 3000, 100),
        (vec![json!({})], 3000, 100),
        (vec![Value::Null], 3000, 100),
        (vec![by("alpha")], 3000, 100),
        (vec![by("count")], 20_000, 100),
        (vec![max(json!(7))], 3000, 7),
        (vec![max(json!(7)), max(Value::Null)], 3000, 100),
        (vec![max(json!(7)), Value::Null], 3000, 100),
        (vec![max(json!(5000))], 5000, 5000),
        (vec![max(json!(5000)), max(json!(7))], 3000, 7),
        (vec![max(json!(5000)), by("alpha")], 5000, 5000),
        (vec![max(json!(5000)), Value::Null], 3000, 100),
        (vec![max(json!(7)), by("count")], 20_000, 7),
        (vec![by("count"), max(json!(7))], 20_000, 7),
        (vec![by("count"), max(json!(7)), by("alpha")], 3000, 7),
        (vec![by("count"), max(json!(7)), json!({"sortFacetValuesBy": null})], 3000, 7),
        (vec![by("count"), max(json!(7)), max(Value::Null)], 20_000, 100),
        (vec![by("count"), max(json!(7)), Value::Null], 3000, 100),
        (vec![by("count"), json!({})], 20_000, 100),
        (vec![max(json!(50_000)), by("count")], 50_000, 50_000),
    ] {
        assert_eq!(facets_after(&changes), (json!(node), json!(user)), "{changes:?}");
    }
}

#[test]
fn embedders_never_embed_hidden_fields_nor_lose_their_keys() {
    let set = |body: Value, overlay: &Value| apply("embedders", SettingsMethod::Patch, &body, overlay);
    let key = "sk-0123456789012345678901234567890";
    let made = set(json!({"e": {"source": "openAi", "apiKey": key}}), &Value::Null);
    let template = body_of(&made)["e"]["documentTemplate"].as_str().unwrap().to_owned();
    assert!(template.contains(SHARD_FIELD) && template.contains(INSERTED_AT_FIELD));
    assert_eq!(made.details, json!({EMBEDDERS: {"e": {"source": "openAi", "apiKey": "sk-01XXXXXX..."}}}));

    // Another change does not touch the template; resetting the template gives ours again.
    let other = set(json!({"e": {"dimensions": 9}}), &made.overlay);
    assert_eq!(body_of(&other), json!({"e": {"dimensions": 9}}));
    let own = set(json!({"e": {"documentTemplate": "{{doc.a}}"}}), &other.overlay);
    assert_eq!(body_of(&own)["e"]["documentTemplate"], "{{doc.a}}");
    let still_own = set(json!({"e": {"source": "rest", "url": "u"}}), &own.overlay);
    assert_eq!(body_of(&still_own)["e"].get("documentTemplate"), None);
    let reset = set(json!({"e": {"documentTemplate": null}}), &still_own.overlay);
    assert_eq!(body_of(&reset)["e"]["documentTemplate"], json!(template));

    // A source without a template, and back.
    let provided = set(json!({"e": {"source": "userProvided", "dimensions": 2}}), &own.overlay);
    assert_eq!(body_of(&provided)["e"].get("documentTemplate"), None);
    let back = set(json!({"e": {"source": "openAi"}}), &provided.overlay);
    assert_eq!(body_of(&back)["e"]["documentTemplate"], json!(template));

    // Fragments exclude a template, so ours is given when they go.
    let fragments = json!({"e": {"source": "rest", "url": "u", "indexingFragments": {"f": {"value": 1}}}});
    let fragments = set(fragments, &Value::Null);
    assert_eq!(body_of(&fragments)["e"].get("documentTemplate"), None);
    let gone = set(json!({"e": {"indexingFragments": null}}), &fragments.overlay);
    assert_eq!(body_of(&gone)["e"]["documentTemplate"], json!(template));

    // What users see, and what a fresh node needs to be equal.
    let shown = json!({"source": "openAi", "apiKey": "sk-01XXXXXX...", "documentTemplate": template});
    let user = to_user(&json!({EMBEDDERS: {"e": shown}}), &made.overlay);
    assert!(!user.to_string().contains("_miroir_"));
    let full = full_node_form(&user, &made.overlay, NEEDS);
    let expected = json!({"source": "openAi", "apiKey": key, "documentTemplate": template});
    assert_eq!(full[EMBEDDERS]["e"], expected);

    let part = json!({"source": "ollama", "model": "m"});
    let composite = json!({"c": {"source": "composite", "indexingEmbedder": part, "searchEmbedder": part}});
    let body = body_of(&set(composite, &Value::Null));
    assert_eq!(body["c"]["indexingEmbedder"]["documentTemplate"], json!(template));
    assert_eq!(body["c"]["searchEmbedder"].get("documentTemplate"), None);
    assert_eq!(set(json!({"e": null}), &made.overlay).overlay, json!({EMBEDDERS: {}}));
}

#[test]
fn names_of_routes_and_of_settings_correspond() {
    for name in routes::BASE_SETTINGS.iter().chain(routes::settings_not_shown(NEEDS.version)) {
        assert_eq!(camel_case(&kebab_case(name)), **name);
    }
    assert_eq!(kebab_case("searchCutoffMs"), "search-cutoff-ms");
    assert_eq!(camel_case("search-cutoff-ms"), "searchCutoffMs");
}

#[test]
fn the_hash_ignores_order_where_order_means_nothing() {
    let one = json!({
        SORTABLE: ["a", "b"],
        "typoTolerance": {"enabled": true, "disableOnWords": ["x", "y"]},
    });
    let same = json!({
        "typoTolerance": {"disableOnWords": ["y", "x"], "enabled": true},
        SORTABLE: ["b", "a"],
        "foreignKeys": [],
        DISTINCT: null,
    });
    assert_eq!(canonical_hash(&one), canonical_hash(&same));
    assert_eq!(canonical_hash(&one).len(), 32);
    for name in [FILTERABLE, RANKING_RULES, SEARCHABLE] {
        assert_ne!(canonical_hash(&json!({name: ["a", "b"]})), canonical_hash(&json!({name: ["b", "a"]})));
    }
    assert_ne!(canonical_hash(&json!({SEARCHABLE: ["*"]})), canonical_hash(&json!({SEARCHABLE: []})));
}

fn field() -> impl Strategy<Value = String> {
    "[a-e_]{1,3}"
}

fn user_settings() -> impl Strategy<Value = Value> {
    let patterns = (prop::collection::vec("[a-e*]{1,3}", 0..3), any::<bool>()).prop_map(
        |(patterns, facet_search)| {
            let filter = json!({"equality": true, "comparison": false});
            json!({"attributePatterns": patterns, "features": {"facetSearch": facet_search, "filter": filter}})
        },
    );
    let rule = prop_oneof![field().prop_map(Value::from), patterns];
    let fields = || prop::collection::btree_set(field(), 0..4);
    let displayed = prop_oneof![Just(json!(["*"])), fields().prop_map(|fields| json!(fields))];
    let faceting = (
        prop_oneof![0..200_u64, 2900..3100_u64, 19_990..30_000_u64],
        prop::collection::btree_map(field(), "alpha|count", 0..3),
    )
        .prop_map(|(max, sort)| json!({"maxValuesPerFacet": max, "sortFacetValuesBy": sort}));
    let ranking_rules = prop::collection::vec(field().prop_map(|field| format!("{field}:asc")), 0..4);
    (displayed, prop::collection::vec(rule, 0..4), fields(), ranking_rules, faceting).prop_map(
        |(displayed, filterable, sortable, ranking_rules, faceting)| {
            json!({
                DISPLAYED: displayed,
                FILTERABLE: filterable,
                SORTABLE: sortable,
                RANKING_RULES: ranking_rules,
                FACETING: faceting,
            })
        },
    )
}

proptest! {
    /// What a user sets is what they see, and a new replica made from what they see is the same as the others.
    #[test]
    fn settings_come_back_as_they_were_set(wanted in user_settings(), before in user_settings()) {
        let earlier = apply("", SettingsMethod::Patch, &before, &Value::Null);
        let change = apply("", SettingsMethod::Patch, &wanted, &earlier.overlay);
        // A node shows these settings as they were set.
        let node = body_of(&change);
        prop_assert_eq!(&node[DISPLAYED], &json!(["*"]));
        prop_assert_eq!(&to_user(&node, &change.overlay), &wanted);
        let replica = full_node_form(&wanted, &change.overlay, NEEDS);
        prop_assert_eq!(canonical_hash(&replica), canonical_hash(&node));
    }

    /// One setting at a time through its own route gives what all at once gives.
    #[test]
    fn routes_agree(wanted in user_settings()) {
        let whole = apply("", SettingsMethod::Patch, &wanted, &Value::Null);
        let whole_body = body_of(&whole);
        let mut overlay = Value::Null;
        for (name, value) in wanted.as_object().unwrap() {
            let change = apply(&kebab_case(name), SettingsMethod::Put, value, &overlay);
            let body = body_of(&change);
            let sent = if change.path_suffix.is_empty() { &body[name] } else { &body };
            prop_assert_eq!(sent, &whole_body[name]);
            prop_assert_eq!(&change.details[name], &whole.details[name]);
            overlay = change.overlay;
        }
        prop_assert_eq!(overlay, whole.overlay);
    }
}

#[test]
fn a_failed_change_leaves_no_trace_in_the_overlay() {
    let user = json!({DISPLAYED: ["title"], FACETING: {"maxValuesPerFacet": 7, "sortFacetValuesBy": {"*": "alpha"}}});
    let changed = json!({FACETING: {"maxValuesPerFacet": 9}, "embedders": {"e": {"apiKey": "k"}}});
    let restored = committed_overlay(&user, &changed);
    assert_eq!(restored[DISPLAYED], json!(["title"]));
    assert_eq!(restored[FACETING]["maxValuesPerFacet"], json!(7));
    assert_eq!(restored["embedders"], changed["embedders"]);
    let all_shown = json!({DISPLAYED: ["*"]});
    assert_eq!(committed_overlay(&all_shown, &json!({DISPLAYED: ["title"]})), json!({}));
}

#[test]
fn details_tell_what_a_change_makes_of_the_overlay() {
    let whole = |body: Value| ("", SettingsMethod::Patch, body);
    let mut overlay = json!({"embedders": {"e": {"apiKey": "k"}}});
    let mut told = overlay.clone();
    for (route, method, body) in [
        whole(json!({DISPLAYED: ["b", "a", "b"], "stopWords": ["the"]})),
        whole(json!({FACETING: {"maxValuesPerFacet": 7}, RANKING_RULES: ["words"]})),
        ("faceting", SettingsMethod::Patch, json!({"sortFacetValuesBy": {"a": "count"}})),
        ("displayed-attributes", SettingsMethod::Put, json!(["*"])),
        ("ranking-rules", SettingsMethod::Delete, Value::Null),
        whole(json!({FACETING: {"maxValuesPerFacet": null}})),
        whole(json!({DISPLAYED: 3, FACETING: 4, RANKING_RULES: "words"})),
        ("", SettingsMethod::Delete, Value::Null),
    ] {
        let change = apply(route, method, &body, &overlay);
        overlay = change.overlay;
        told = overlay_with_change(&told, &change.details, NEEDS);
        for name in [DISPLAYED, FACETING, RANKING_RULES] {
            assert_eq!(told.get(name), overlay.get(name), "{name} after {body}");
        }
    }
    let keys = json!({"embedders": {"e": {"apiKey": "XXX"}}});
    assert_eq!(overlay_with_change(&json!({"embedders": 1}), &keys, NEEDS), json!({"embedders": 1}));
}

#[test]
fn what_is_known_of_embedders_is_taken_over() {
    let overlay = json!({DISPLAYED: ["a"], "embedders": {"old": {}}});
    let other = json!({DISPLAYED: ["b"], "embedders": {"new": {}}});
    let expected = json!({DISPLAYED: ["a"], "embedders": {"new": {}}});
    assert_eq!(overlay_with_embedders_of(&overlay, &other), expected);
    assert_eq!(overlay_with_embedders_of(&overlay, &Value::Null), json!({DISPLAYED: ["a"]}));
}

#[test]
fn what_documents_may_be_against_is_reset_but_for_what_is_miroirs_own() {
    let default = default_node_settings(NEEDS);
    let lists = json!({FILTERABLE: default[FILTERABLE], SORTABLE: [INSERTED_AT_FIELD]});
    assert_eq!(reset_form(NEEDS, false), lists);
    let mut all = lists;
    all[EMBEDDERS] = Value::Null;
    assert_eq!(reset_form(NEEDS, true), all);
}
