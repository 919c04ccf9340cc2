//! Understanding what a client asks for, in its two spellings: a JSON body and a query string.
//!
//! What is wrong or unknown is not judged here: the request is passed to a node, which words its refusal as
//! no one else could.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::BrowsePlan;
use super::order::{SortBy, SortRule};
use crate::documents::{is_valid_document_id, validate_document_id};
use crate::error::ApiError;
use crate::hidden;

/// Documents answered when no limit is given.
const DEFAULT_LIMIT: usize = 20;
/// Names with a meaning of their own in `sort`.
const RESERVED_SORT_NAMES: [&str; 5] = ["_geo", "_geoDistance", "_geoPoint", "_geoRadius", "_geoBoundingBox"];

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPlan {
    /// Not understood: pass the request as it is to one node, whose answer is an error to return as it is.
    AskANode,
    /// This is the answer.
    Refused(ApiError),
}

/// The JSON body of `POST /documents/fetch`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FetchBody<'a> {
    #[serde(default)]
    offset: usize,
    #[serde(default = "default_limit")]
    limit: usize,
    fields: Option<Vec<String>>,
    #[serde(default)]
    retrieve_vectors: bool,
    #[serde(borrow)]
    ids: Option<Vec<&'a RawValue>>,
    filter: Option<Value>,
    sort: Option<Vec<String>>,
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

impl BrowsePlan {
    /// Reads the body of `POST /documents/fetch`.
    pub fn from_fetch(body: &[u8]) -> Result<Self, NoPlan> {
        let body: FetchBody<'_> = serde_json::from_slice(body).map_err(|_| NoPlan::AskANode)?;
        let ids = match body.ids {
            Some(ids) => Some(
                ids.into_iter()
                    .map(|id| validate_document_id(id).map_err(|_| NoPlan::AskANode))
                    .collect::<Result<Vec<_>, _>>()?,
            ),
            None => None,
        };
        Self {
            offset: body.offset,
            limit: body.limit,
            most: usize::MAX,
            fields: body.fields,
            retrieve_vectors: body.retrieve_vectors,
            filter: body.filter,
            ids,
            sort: body.sort.unwrap_or_default(),
            rules: Vec::new(),
        }
        .checked()
    }

    /// Reads the decoded query parameters of `GET /documents`. A parameter given twice counts once, the last.
    pub fn from_query<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, NoPlan> {
        let mut plan = Self {
            offset: 0,
            limit: DEFAULT_LIMIT,
            most: usize::MAX,
            fields: None,
            retrieve_vectors: false,
            filter: None,
            ids: None,
            sort: Vec::new(),
            rules: Vec::new(),
        };
        let number = |text: &str| text.parse::<usize>().map_err(|_| NoPlan::AskANode);
        for (name, value) in parameters {
            match name {
                "offset" => plan.offset = number(value)?,
                "limit" => plan.limit = number(value)?,
                "fields" => {
                    let names: Vec<String> = value.split(',').map(str::to_owned).collect();
                    plan.fields = (!names.iter().any(|name| name == "*")).then_some(names);
                }
                "retrieveVectors" => {
                    plan.retrieve_vectors = value.parse::<bool>().map_err(|_| NoPlan::AskANode)?;
                }
                "ids" => {
                    let ids = value.split(',').filter(|_| !value.is_empty()).map(str::to_owned);
                    plan.ids = Some(ids.collect());
                }
                "filter" => {
                    let parsed = serde_json::from_str::<Value>(value).ok();
                    plan.filter = Some(parsed.unwrap_or_else(|| Value::from(value)));
                }
                "sort" => plan.sort = split_sort_parameter(value),
                _ => return Err(NoPlan::AskANode),
            }
        }
        plan.checked()
    }

    /// Checks what both spellings share.
    fn checked(mut self) -> Result<Self, NoPlan> {
        let filter_is_readable =
            matches!(self.filter, None | Some(Value::Null | Value::String(_) | Value::Array(_)));
        let ids_are_valid = self.ids.iter().flatten().all(|id| is_valid_document_id(id));
        if !filter_is_readable || !ids_are_valid {
            return Err(NoPlan::AskANode);
        }
        self.rules =
            self.sort.iter().map(|text| parse_rule(text)).collect::<Option<_>>().ok_or(NoPlan::AskANode)?;
        // One Meilisearch has no such field; nodes do, and would sort by it.
        if let Some(rule) = self.rules.iter().find(|rule| hidden::is_reserved(rule.sorted_name())) {
            let message = format!("Attribute `{}` is not sortable.", rule.sorted_name());
            return Err(NoPlan::Refused(ApiError::bad_request("invalid_document_sort", message)));
        }
        Ok(self)
    }
}

/// Splits the `sort` query parameter at commas, except the one inside `_geoPoint(lat,lng)`.
fn split_sort_parameter(text: &str) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    let mut inside_point = false;
    for part in text.trim_matches('"').split(',').map(str::trim) {
        match rules.last_mut() {
            Some(rule) if inside_point && !part.starts_with("_geoPoint(") => {
                rule.push(',');
                rule.push_str(part);
                inside_point = !(part.ends_with("):asc") || part.ends_with("):desc"));
            }
            _ => {
                rules.push(part.to_owned());
                inside_point = part.starts_with("_geoPoint(");
            }
        }
    }
    rules
}

/// Reads one expression of `sort`; `None` when it is not one.
fn parse_rule(text: &str) -> Option<SortRule> {
    let (name, direction) = text.rsplit_once(':')?;
    let ascending = match direction {
        "asc" => true,
        "desc" => false,
        _ => return None,
    };
    if let Some(point) = name.strip_prefix("_geoPoint(").and_then(|rest| rest.strip_suffix(')')) {
        let (latitude, longitude) = point.split_once(',')?;
        let (latitude, longitude): (f64, f64) =
            (latitude.trim().parse().ok()?, longitude.trim().parse().ok()?);
        let exists = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        return exists.then_some(SortRule { by: SortBy::DistanceTo([latitude, longitude]), ascending });
    }
    let is_reserved = RESERVED_SORT_NAMES.iter().any(|reserved| {
        name.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('('))
    });
    (!is_reserved).then(|| SortRule { by: SortBy::Field(name.to_owned()), ascending })
}
