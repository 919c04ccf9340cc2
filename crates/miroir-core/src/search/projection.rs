//! Which attributes the client may see.
//!
//! Nodes are set to show everything, since a node hides the values of sort rules on attributes that are not
//! displayed and the merge needs those. The user's `displayedAttributes` are therefore applied here: to the
//! attribute lists of the request, and afterwards to what no request parameter controls.

use std::sync::Arc;

use super::request::{Changes, ClientBody, ForwardRaw};
use crate::hidden::is_reserved;

/// The attribute lists a client asked for and what may be shown of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Projection {
    /// The user's `displayedAttributes` when they are not `["*"]`.
    pub(super) displayed: Option<Arc<[String]>>,
    /// The lists to send instead of the client's; `None` when the client's may be sent as they are.
    retrieve: Option<Vec<String>>,
    highlight: Option<Vec<String>>,
    crop: Option<Vec<String>>,
    /// What the client effectively retrieves: `None` is everything.
    pub(super) retrieved: Option<Vec<String>>,
    /// What the client effectively sees in `_formatted`: `None` is everything.
    pub(super) formatted: Option<Vec<String>>,
    /// The client asked for vectors of an index whose displayed attributes are listed.
    pub(super) vectors_are_limited: bool,
}

impl Projection {
    pub(super) fn new(body: &ClientBody, displayed: Option<&Arc<[String]>>) -> Result<Self, ForwardRaw> {
        let retrieve: Option<Vec<String>> = body.optional("attributesToRetrieve")?;
        let highlight: Option<Vec<String>> = body.optional("attributesToHighlight")?;
        let crop: Option<Vec<String>> = body.optional("attributesToCrop")?;
        let retrieve_vectors: bool = body.or_default("retrieveVectors", false)?;

        let is_all = |list: &[String]| list.iter().any(|name| name == "*");
        let retrieved = match (&retrieve, displayed) {
            (Some(list), Some(displayed)) if !is_all(list) => {
                Some(list.iter().filter(|name| displayed.contains(name)).cloned().collect())
            }
            (_, Some(displayed)) => Some(displayed.to_vec()),
            (Some(list), None) if !is_all(list) => Some(without_reserved(list)),
            (_, None) => None,
        };
        let new_highlight = highlight.as_ref().map(|list| match displayed {
            Some(displayed) if is_all(list) => displayed.to_vec(),
            Some(displayed) => list.iter().filter(|name| displayed.contains(name)).cloned().collect(),
            None => without_reserved(list),
        });
        let new_crop = crop.as_ref().map(|list| match displayed {
            Some(displayed) => crop_within(list, displayed),
            None => list.iter().filter(|entry| !is_reserved(crop_name(entry))).cloned().collect(),
        });

        let shows_all_formatted = new_highlight.as_deref().is_some_and(is_all)
            || new_crop.as_deref().is_some_and(|list| list.iter().any(|entry| crop_name(entry) == "*"));
        let formatted = match &retrieved {
            Some(retrieved) if !shows_all_formatted => {
                let crop_names = new_crop.iter().flatten().map(|entry| crop_name(entry).to_owned());
                let names = retrieved.iter().cloned().chain(new_highlight.iter().flatten().cloned());
                Some(names.chain(crop_names).collect())
            }
            _ => None,
        };
        let is_new_list = |new: &Option<Vec<String>>, old: &Option<Vec<String>>| new.is_some() && new != old;
        Ok(Self {
            displayed: displayed.cloned(),
            retrieve: retrieved.clone().filter(|_| is_new_list(&retrieved, &retrieve)),
            highlight: new_highlight.clone().filter(|_| is_new_list(&new_highlight, &highlight)),
            crop: new_crop.clone().filter(|_| is_new_list(&new_crop, &crop)),
            retrieved,
            formatted,
            vectors_are_limited: retrieve_vectors && displayed.is_some(),
        })
    }

    /// Replaces the lists that the client's may not be sent as.
    pub(super) fn apply(&self, changes: &mut Changes) {
        let lists = [
            ("attributesToRetrieve", &self.retrieve),
            ("attributesToHighlight", &self.highlight),
            ("attributesToCrop", &self.crop),
        ];
        for (name, list) in lists {
            if let Some(list) = list {
                changes.set_list(name, list);
            }
        }
    }

    /// Whether matches in this (possibly nested) attribute may be shown.
    pub(super) fn shows(&self, attribute: &str) -> bool {
        let Some(displayed) = &self.displayed else { return true };
        displayed.iter().any(|name| is_same_or_inside(attribute, name))
    }

    /// Whether the values a sort rule compared may be shown: only for an attribute listed by its very name.
    pub(super) fn shows_sort_on(&self, attribute: &str) -> bool {
        self.displayed.as_ref().is_none_or(|displayed| displayed.iter().any(|name| name == attribute))
    }

    /// Whether `_vectors` is hidden, given whether the index is known to hold vectors sent with documents.
    ///
    /// Meilisearch decides differently in the two cases, and in the second the other way round than documented:
    /// once any document came with `_vectors`, listing `_vectors` hides it. Equal answers are what is promised.
    pub(super) fn hides_vectors(&self, documents_came_with_vectors: bool) -> bool {
        let lists_vectors =
            || self.displayed.as_ref().is_none_or(|list| list.iter().any(|name| name == "_vectors"));
        self.vectors_are_limited && lists_vectors() == documents_came_with_vectors
    }
}

/// Whether `attribute` is `ancestor` or nested under it.
pub(super) fn is_same_or_inside(attribute: &str, ancestor: &str) -> bool {
    attribute.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn without_reserved(list: &[String]) -> Vec<String> {
    list.iter().filter(|name| !is_reserved(name)).cloned().collect()
}

/// The attribute of an entry of `attributesToCrop`, which is `name` or `name:length`.
fn crop_name(entry: &str) -> &str {
    entry.rsplit_once(':').map_or(entry, |(name, _)| name)
}

fn crop_within(list: &[String], displayed: &[String]) -> Vec<String> {
    let mut within = Vec::new();
    for entry in list {
        let name = crop_name(entry);
        let length = entry.strip_prefix(name).unwrap_or_default();
        if name == "*" {
            within.extend(displayed.iter().map(|name| match length {
                // A name with a colon would be taken for one with a length; an empty length is the default one.
                "" if name.contains(':') => format!("{name}:"),
                length => format!("{name}{length}"),
            }));
        }
        if displayed.iter().any(|shown| shown == name) {
            within.push(entry.clone());
        }
    }
    within
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(body: &str, displayed: Option<&[&str]>) -> (Projection, String) {
        let body = ClientBody::parse(body.as_bytes()).unwrap();
        let displayed: Option<Arc<[String]>> =
            displayed.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let projection = Projection::new(&body, displayed.as_ref()).unwrap();
        let mut changes = Changes::default();
        projection.apply(&mut changes);
        (projection, String::from_utf8(body.write_with(&changes)).unwrap())
    }

    #[test]
    fn without_a_limit_only_reserved_names_go() {
        let body = r#"{"attributesToRetrieve":["a","*"],"attributesToCrop":["b:3"]}"#;
        assert_eq!(project(body, None).1, body);
        let body = r#"{"attributesToRetrieve":["a","_miroir_shard"],"attributesToCrop":["_miroir_shard:3"]}"#;
        assert_eq!(project(body, None).1, r#"{"attributesToRetrieve":["a"],"attributesToCrop":[]}"#);
    }

    #[test]
    fn a_limit_replaces_everything_and_cuts_lists() {
        let displayed = Some(&["a", "b.c"][..]);
        assert_eq!(project("{}", displayed).1, r#"{"attributesToRetrieve":["a","b.c"]}"#);
        let body = r#"{"attributesToRetrieve":["b","a"],"attributesToHighlight":["*"],"attributesToCrop":["*:5","a","z"]}"#;
        assert_eq!(
            project(body, displayed).1,
            r#"{"attributesToRetrieve":["a"],"attributesToHighlight":["a","b.c"],"attributesToCrop":["a:5","b.c:5","a"]}"#
        );
        assert_eq!(project("{}", Some(&[])).1, r#"{"attributesToRetrieve":[]}"#);
    }

    #[test]
    fn matches_show_only_at_or_under_what_is_displayed() {
        let (projection, _) = project("{}", Some(&["a", "b.c"]));
        assert!(projection.shows("a") && projection.shows("a.x") && projection.shows("b.c"));
        assert!(!projection.shows("b") && !projection.shows("ab") && !projection.shows("b.d"));
        assert!(projection.shows_sort_on("a") && !projection.shows_sort_on("a.x"));
    }

    #[test]
    fn a_list_of_the_wrong_type_is_forwarded() {
        let body = ClientBody::parse(br#"{"attributesToRetrieve":"a"}"#).unwrap();
        assert!(Projection::new(&body, None).is_err());
    }
}
