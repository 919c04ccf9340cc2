//! A real data set: 3,201 films, with the mistakes and gaps real data has.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::corpus::Corpus;
use crate::process::repository_root;

/// The films, numbered from 1 in the order of the file.
pub fn movies() -> Corpus {
    let directory = std::env::var_os("MIROIR_DATASETS")
        .map_or_else(|| repository_root().join("node_modules/vega-datasets/data"), PathBuf::from);
    let path = directory.join("movies.json");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("cannot read {} ({error}): run ./scripts/test or `npm ci`", path.display())
    });
    let mut documents: Vec<Value> = serde_json::from_slice(&bytes).expect("the data set is a JSON array");
    for (position, document) in documents.iter_mut().enumerate() {
        document["id"] = json!(position + 1);
    }
    Corpus {
        name: "movies",
        primary_key: "id",
        documents,
        text_fields: &["Title", "Director", "Distributor", "Major Genre", "Source"],
        number_fields: &["US Gross", "Production Budget", "IMDB Rating", "Running Time min"],
        category_fields: &["MPAA Rating", "Distributor", "Major Genre", "Creative Type", "Source"],
        plain_facets: &["MPAA Rating", "Major Genre", "Creative Type", "Source", "US Gross", "Director"],
        spelling_facets: &[],
        mixed_facets: &[],
        count_facet: "Distributor",
        sort_fields: &["Title", "US Gross", "IMDB Rating", "Running Time min", "Release Date", "Director"],
        distinct_fields: &["Director", "Major Genre", "MPAA Rating", "Running Time min"],
        has_geo: false,
        vector_dimensions: 0,
    }
}
