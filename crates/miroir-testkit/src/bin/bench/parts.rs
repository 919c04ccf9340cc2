//! The searches as each subject is sent them.

use miroir_core::search::{Depth, SearchPlan, SearchSettings};
use miroir_testkit::figures::connection::Part;
use miroir_testkit::figures::workload::{INDEX, Workload};
use miroir_testkit::request::SearchRequest;

use crate::subject::{Route, Subject};

/// The searches as a subject is sent them: one part, or for the floor as many as Miroir would send to its nodes.
pub fn parts(workload: &Workload, subject: Subject, route: &Route) -> Vec<Vec<Part>> {
    let path = format!("/indexes/{INDEX}/search");
    let settings = SearchSettings::from_settings(&workload.settings);
    let of_search = |search: &SearchRequest| {
        let body = serde_json::to_vec(&search.body).expect("a search is JSON");
        let bodies = match subject {
            Subject::FloorOne => vec![plan(&body, &settings).body_alone(None)],
            Subject::FloorThree => plan(&body, &settings).bodies(None, Depth::Likely { share: 1.0 / 3.0 }),
            _ => vec![body],
        };
        let calls = route.addresses.iter().flat_map(|address| bodies.iter().map(move |body| (address, body)));
        calls.map(|(address, body)| Part::post(address, &path, route.key, body)).collect()
    };
    workload.searches.iter().map(of_search).collect()
}

fn plan(body: &[u8], settings: &SearchSettings) -> SearchPlan {
    SearchPlan::new(body, settings).unwrap_or_else(|_| {
        panic!("Miroir would refuse a generated search: {}", String::from_utf8_lossy(body))
    })
}
