//! Generated filters: every operator, every nesting, on fields that are missing, null or of mixed types.

use serde_json::{Value, json};

use crate::corpus::value_at;
use crate::request::Generator;

impl Generator<'_> {
    pub(super) fn comparison(&mut self) -> Value {
        let field = *self.dice.pick(self.corpus.number_fields);
        let (low, high) = (self.number_of(field), self.number_of(field));
        let (low, high) = if low <= high { (low, high) } else { (high, low) };
        let field = format!("\"{field}\"");
        json!(match self.dice.below(6) {
            0 => format!("{field} > {low}"),
            1 => format!("{field} <= {high}"),
            2 => format!("{field} {low} TO {high}"),
            3 => format!("{field} = {low}"),
            4 => format!("{field} != {low} AND {field} < {high}"),
            _ => format!("NOT {field} >= {high}"),
        })
    }

    pub(super) fn text_filter(&mut self) -> Value {
        let field = *self.dice.pick(self.corpus.category_fields);
        let (one, other) = (self.text_of(field), self.text_of(field));
        let field = format!("\"{field}\"");
        json!(match self.dice.below(9) {
            0 => format!("{field} = {one}"),
            1 => format!("{field} != {one}"),
            2 => format!("{field} IN [{one}, {other}]"),
            3 => format!("{field} NOT IN [{one}, {other}]"),
            4 => format!("{field} EXISTS"),
            5 => format!("{field} NOT EXISTS"),
            6 => format!("{field} IS NULL OR {field} IS EMPTY"),
            7 => format!("NOT ({field} = {one} OR {field} = {other})"),
            _ => format!("{field} IS NOT NULL AND {field} IS NOT EMPTY"),
        })
    }

    pub(super) fn nested_filter(&mut self) -> Value {
        let (text, number, other) = (self.text_filter(), self.comparison(), self.text_filter());
        match self.dice.below(4) {
            0 => json!([text, number]),
            1 => json!([[text, other], number]),
            2 => json!([[text, number, other]]),
            _ => json!([]),
        }
    }

    pub(super) fn geo_filter(&mut self) -> Value {
        let (latitude, longitude) = self.place();
        json!(match self.dice.below(3) {
            0 => format!(
                "_geoBoundingBox([{}, {}], [{latitude}, {longitude}])",
                latitude + 3.0,
                longitude + 4.0
            ),
            1 => format!("NOT _geoRadius({latitude}, {longitude}, {})", self.dice.between(1_000, 400_000)),
            _ => format!("_geoRadius({latitude}, {longitude}, {})", self.dice.between(1_000, 400_000)),
        })
    }

    /// A number some document has in the field.
    fn number_of(&mut self, field: &str) -> f64 {
        loop {
            let document = self.dice.pick(&self.corpus.documents);
            if let Some(number) = value_at(document, field).and_then(Value::as_f64) {
                return number;
            }
        }
    }

    /// A value some document has in the field, written for a filter.
    fn text_of(&mut self, field: &str) -> String {
        loop {
            let document = self.dice.pick(&self.corpus.documents);
            let value = match value_at(document, field) {
                Some(Value::Array(items)) => items.first().cloned(),
                other => other.cloned(),
            };
            match value {
                Some(Value::String(text)) => return json!(text).to_string(),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => return value.to_string(),
                _ => {}
            }
        }
    }
}
