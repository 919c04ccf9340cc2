//! Pinning: what does, what does not, and that no document that matches is left out.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const SHARDS: u16 = 1_009;

fn ids_of(capitals: bool) -> Ids<'static> {
    Ids { primary_key: Some("id"), shards: SHARDS, capitals }
}

/// The ids that pin like the filter, when it pins.
fn assert_pins(filter: &Value, ids: Option<&[&str]>) {
    let expected = ids.map(|ids| ids.iter().map(|id| shard_of(id, SHARDS)).collect());
    assert_eq!(pinned_shards(filter, "id", ids_of(true)), expected, "{filter}");
}

#[test]
fn what_names_ids_pins() {
    let none: &[&str] = &[];
    for (filter, ids) in [
        ("id = 7", &["7"][..]),
        ("id=7", &["7"]),
        ("(id = 7)", &["7"]),
        ("'id' = \"7\"", &["7"]),
        ("id = -7", &["-7"]),
        ("id = 007", &["7", "007"]),
        ("id = 7.0", &["7"]),
        ("id = 1e1", &["10", "1e1", "1E1"]),
        ("id = ' 7 '", &["7"]),
        ("id = Ab", &["ab", "aB", "Ab", "AB"]),
        ("id = 'a b'", none),
        ("id = 7.5", none),
        ("id = ''", none),
        ("id IN [1, '2', \"3\",]", &["1", "2", "3"]),
        ("id IN[ ]", none),
        ("id = 7 AND price > 3", &["7"]),
        ("price 1 TO 3 AND id = 7 AND NOT x EXISTS", &["7"]),
        ("_geoRadius(1, 2, 3) AND id IN [1, 2]", &["1", "2"]),
        ("id = 1 AND id = 2", none),
        ("id IN [1, 2] AND id IN [2, 3]", &["2"]),
        ("id = 1 OR id = 2", &["1", "2"]),
        ("id = 1 OR (id = 2 AND x = y)", &["1", "2"]),
        ("(id = 1 OR id = 2) AND (x = 1 OR y = 2)", &["1", "2"]),
        ("x IN [a, b] AND id = 1", &["1"]),
        ("x = 'a OR id = 2' AND id = 1", &["1"]),
        ("x = \"it's\" AND id = 1", &["1"]),
        ("titre = 'été' AND id = 1", &["1"]),
    ] {
        assert_pins(&json!(filter), Some(ids));
        assert_pins(&json!([filter]), Some(ids));
    }
    assert_pins(&json!(["x = 1", "id = 1"]), Some(&["1"]));
    assert_pins(&json!(["x = 1", ["id = 1", "id = 2"]]), Some(&["1", "2"]));
    assert_pins(&json!([["id = 1"], ["x = 1", "id = 2"]]), Some(&["1"]));
}

#[test]
fn what_does_not_or_may_not_pins_nothing() {
    for filter in [
        "",
        "x = 1",
        "id != 7",
        "id > 7",
        "id 7 TO 7",
        "NOT id = 7",
        "NOT (id = 7)",
        "id NOT IN [7]",
        "id EXISTS",
        "id STARTS WITH 7",
        "x = id",
        "ID = 7",
        "id.x = 7",
        "id = 1 OR x = 2",
        "id = 1 OR NOT id = 2",
        "id = abcdefgh",
        "id = 9007199254740992",
        "id = 1e300",
        "id IN [1, abcdefgh]",
        "id = '７'",
        "id = 'a\\'' OR x = '",
        "x = '\\' AND id = 1 AND y = '",
        "id = 7 x",
        "(id = 7",
        "id = 7)",
        "(id = 7) x (id = 7)",
        "id = 7 OR",
        "id IN [1 2]",
        "id IN [1,,2]",
    ] {
        assert_pins(&json!(filter), None);
    }
    for filter in
        [json!(null), json!(1), json!([]), json!([[]]), json!([["id = 1", "x = 1"]]), json!([["id = 1", ""]])]
    {
        assert_pins(&filter, None);
    }
    assert_pins(&json!(format!("{}id = 7{}", "(".repeat(40), ")".repeat(40))), None);
    assert_eq!(pinned_shards(&json!("a.b = 1"), "a.b", ids_of(true)), None);
}

#[test]
fn a_value_of_many_letters_pins_where_no_id_has_capitals() {
    let uuid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    for spelling in [uuid.to_owned(), uuid.to_uppercase()] {
        let filter = json!(format!("id = \"{spelling}\""));
        assert_eq!(pinned_shards(&filter, "id", ids_of(true)), None);
        assert_eq!(pinned_shards(&filter, "id", ids_of(false)), Some([shard_of(uuid, SHARDS)].into()));
    }
}

/// A filter as Meilisearch understands it, with conditions on other fields that hold for some ids.
#[derive(Debug, Clone)]
enum Meaning {
    Is(String),
    In(Vec<String>),
    Else(u64),
    Not(Box<Meaning>),
    And(Vec<Meaning>),
    Or(Vec<Meaning>),
}

impl Meaning {
    fn text(&self) -> String {
        let joined = |sides: &[Meaning], with: &str| {
            sides.iter().map(|side| format!("({})", side.text())).collect::<Vec<_>>().join(with)
        };
        match self {
            Meaning::Is(value) => format!("id = \"{value}\""),
            Meaning::In(values) => format!("id IN [{}]", values.join(", ")),
            Meaning::Else(number) => format!("other = {number}"),
            Meaning::Not(side) => format!("NOT ({})", side.text()),
            Meaning::And(sides) => joined(sides, " AND "),
            Meaning::Or(sides) => joined(sides, " OR "),
        }
    }

    fn matches(&self, id: &str) -> bool {
        match self {
            Meaning::Is(value) => is_equal(id, value),
            Meaning::In(values) => values.iter().any(|value| is_equal(id, value)),
            Meaning::Else(number) => id.len() as u64 % 3 == *number,
            Meaning::Not(side) => !side.matches(id),
            Meaning::And(sides) => sides.iter().all(|side| side.matches(id)),
            Meaning::Or(sides) => sides.iter().any(|side| side.matches(id)),
        }
    }
}

fn is_equal(id: &str, value: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let is_integer = id.parse::<i64>().is_ok_and(|number| number.to_string() == id);
    id.to_lowercase() == value.trim().to_lowercase() || (is_integer && number(id) == number(value))
}

fn meaning() -> impl Strategy<Value = Meaning> {
    let value = || "[0-3]{1,2}|[aAbB]{1,2}|0[0-3]|[0-3]e[01]|[0-3]\\.0|[0-3][aA]";
    let leaf = prop_oneof![
        3 => value().prop_map(Meaning::Is),
        3 => prop::collection::vec(value(), 1..4).prop_map(Meaning::In),
        1 => (0u64..3).prop_map(Meaning::Else),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|side| Meaning::Not(Box::new(side))),
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(Meaning::And),
            3 => prop::collection::vec(inner, 1..4).prop_map(Meaning::Or),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_that_matches_is_on_another_shard(
        meanings in prop::collection::vec(meaning(), 1..4),
        ids in prop::collection::vec("[0-9]{1,2}|[aAbB]{1,2}|0[0-3]|[0-3][eE][01]|[0-3][aA]", 1..40),
        capitals in any::<bool>(),
    ) {
        let ids: Vec<String> =
            ids.into_iter().map(|id| if capitals { id } else { id.to_lowercase() }).collect();
        let filter = json!(meanings.iter().map(Meaning::text).collect::<Vec<_>>());
        if let Some(pinned) = pinned_shards(&filter, "id", ids_of(capitals)) {
            for id in ids.iter().filter(|id| meanings.iter().all(|meaning| meaning.matches(id))) {
                prop_assert!(pinned.contains(&shard_of(id, SHARDS)), "{id} matches {filter}");
            }
        }
    }

    #[test]
    fn anything_can_be_read(expression in "[ idANORNT=<'\"\\\\()\\[\\],7é]{0,40}") {
        pinned_shards(&json!(expression), "id", ids_of(false));
    }
}
