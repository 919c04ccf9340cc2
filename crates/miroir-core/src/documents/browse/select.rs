//! Keeping only some fields of a document, with the names Meilisearch understands in `fields`.
//!
//! A name with dots (`a.b`) selects a field of that very name, or the field `b` of an object `a`, also inside
//! arrays of objects. What contains a selected place is kept even when nothing is found in it.

use serde_json::{Map, Value};

/// The fields of a document that the names select.
pub(super) fn select(document: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let mut selected = Map::new();
    for (field, value) in document {
        if names.contains(&field.as_str()) {
            selected.insert(field.clone(), value.clone());
            if !field.contains('.') {
                continue;
            }
        }
        let inside = names_inside(names, field);
        if inside.is_empty() {
            continue;
        }
        match value {
            Value::Object(fields) => {
                selected.insert(field.clone(), Value::Object(select(fields, &inside)));
            }
            Value::Array(elements) => {
                selected.insert(field.clone(), Value::Array(select_in_array(elements, &inside)));
            }
            _ => {}
        }
    }
    selected
}

/// What the names select inside a field: `b` for the name `a.b` and the field `a`.
fn names_inside<'name>(names: &[&'name str], field: &str) -> Vec<&'name str> {
    names.iter().filter_map(|name| name.strip_prefix(field)?.strip_prefix('.')).collect()
}

fn select_in_array(elements: &[Value], names: &[&str]) -> Vec<Value> {
    let mut selected = Vec::new();
    for element in elements {
        match element {
            Value::Array(elements) => selected.push(Value::Array(select_in_array(elements, names))),
            Value::Object(fields) => {
                let fields = select(fields, names);
                if !fields.is_empty() {
                    selected.push(Value::Object(fields));
                }
            }
            _ => {}
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_reach_into_objects_and_arrays() {
        let document = json!({
            "a": {"b": 1, "c": 2},
            "a.b": 3,
            "list": [{"x": 1, "y": 2}, {"y": 3}, 4, [{"x": 5}]],
            "scalar": 6,
        });
        for (names, expected) in [
            (vec!["a.b"], json!({"a": {"b": 1}, "a.b": 3})),
            (vec!["a"], json!({"a": {"b": 1, "c": 2}})),
            (vec!["a", "a.b"], json!({"a": {"b": 1, "c": 2}, "a.b": 3})),
            (vec!["list.x"], json!({"list": [{"x": 1}, [{"x": 5}]]})),
            (vec!["scalar.x", "a.z"], json!({"a": {}})),
            (vec![], json!({})),
        ] {
            let selected = select(document.as_object().unwrap(), &names);
            assert_eq!(Value::Object(selected), expected, "{names:?}");
        }
    }
}
