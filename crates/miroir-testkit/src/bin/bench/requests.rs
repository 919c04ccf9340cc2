//! Measuring what is asked besides searches of one index: several searches at once, facet values, and documents by their
//! primary key, which Miroir asks one node for.

use std::time::Instant;

use miroir_testkit::figures::connection::{Line, Part};
use miroir_testkit::figures::statistics::{percentile, sorted};
use miroir_testkit::figures::workload::{INDEX, Workload};
use serde_json::{Value, json};

use crate::options::Options;
use crate::subject::{Servers, Subject};

/// Who is asked, in the order of the table.
const ASKED: [Subject; 4] = [Subject::Direct, Subject::OneNode, Subject::ThreeNodes, Subject::ThreeCopies];
/// Different requests of a kind.
const REQUESTS: usize = 100;
/// Searches in one request.
const SEARCHES: usize = 5;

/// One kind of request to one subject.
pub struct Measured {
    /// The kind.
    pub label: &'static str,
    /// Who was asked.
    pub subject: Subject,
    /// Milliseconds of each request, per round.
    latencies: Vec<Vec<f64>>,
}

impl Measured {
    /// The medians of the rounds, in milliseconds.
    pub fn round_medians(&self) -> Vec<f64> {
        self.latencies.iter().map(|round| percentile(&sorted(round.iter().copied()), 0.5)).collect()
    }

    /// A percentile over all rounds, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        percentile(&sorted(self.latencies.iter().flatten().copied()), share)
    }
}

/// Sends everybody the same requests, in turns.
pub async fn measure(servers: &Servers, workload: &Workload, options: &Options) -> Vec<Measured> {
    // Filters may name it then.
    let mut filterable = workload.settings["filterableAttributes"].as_array().cloned().unwrap_or_default();
    filterable.push(json!(workload.corpus.primary_key));
    for subject in ASKED {
        let path = format!("/indexes/{INDEX}/settings/filterable-attributes");
        let client = servers.client(subject);
        client.wait_success(client.put(&path, &json!(filterable)).await).await;
    }
    let search = format!("/indexes/{INDEX}/search");
    let facets = format!("/indexes/{INDEX}/facet-search");
    let kinds: [(&str, &str, Vec<Value>); 3] = [
        ("multi-search of 5", "/multi-search", several_searches(workload)),
        ("facet-search", &facets, facet_searches(workload)),
        ("search, `id = …` in the filter", &search, by_primary_key(workload)),
    ];
    let mut measured = Vec::new();
    for (label, path, bodies) in kinds {
        let posts = |subject| {
            let route = servers.route(subject);
            let post =
                |body: &Value| Part::post(&route.addresses[0], path, route.key, body.to_string().as_bytes());
            bodies.iter().map(post).collect()
        };
        measured.extend(in_turns(label, ASKED.map(|subject| (subject, posts(subject))).to_vec(), options));
    }
    measured
}

/// Sends each its requests, one at a time, everybody in turns.
pub fn in_turns(label: &'static str, asked: Vec<(Subject, Vec<Part>)>, options: &Options) -> Vec<Measured> {
    let mut lines: Vec<Line> = asked.iter().map(|_| Line::default()).collect();
    let mut measured: Vec<Measured> = asked
        .iter()
        .map(|(subject, _)| Measured { label, subject: *subject, latencies: Vec::new() })
        .collect();
    // The first round opens connections and warms caches.
    for round in 0..=options.rounds {
        measured.iter_mut().for_each(|one| one.latencies.push(Vec::new()));
        for number in 0..asked.first().map_or(0, |(_, requests)| requests.len()) {
            for turn in 0..asked.len() {
                let place = (turn + number) % asked.len();
                let begun = Instant::now();
                let answered = lines[place].exchange(&asked[place].1[number..=number]);
                answered.unwrap_or_else(|error| panic!("{error}"));
                measured[place].latencies[round].push(1_000.0 * begun.elapsed().as_secs_f64());
            }
        }
    }
    for one in &mut measured {
        one.latencies.remove(0);
        println!("{label}: {}: {:.2} ms", one.subject.label(), one.percentile(0.5));
    }
    measured
}

fn several_searches(workload: &Workload) -> Vec<Value> {
    let mut searches = workload.searches.iter().cycle();
    let next = || {
        let queries = searches.by_ref().take(SEARCHES).map(|search| {
            let mut query = search.body.clone();
            query["indexUid"] = json!(INDEX);
            query
        });
        json!({ "queries": queries.collect::<Vec<Value>>() })
    };
    std::iter::repeat_with(next).take(REQUESTS).collect()
}

fn facet_searches(workload: &Workload) -> Vec<Value> {
    let facets = workload.corpus.category_fields.iter().cycle();
    let request = |(number, facet): (usize, &&str)| {
        let begin = char::from(b'a' + (number % 26) as u8).to_string();
        json!({ "facetName": facet, "facetQuery": begin })
    };
    facets.enumerate().map(request).take(REQUESTS).collect()
}

fn by_primary_key(workload: &Workload) -> Vec<Value> {
    let key = workload.corpus.primary_key;
    let documents = &workload.corpus.documents;
    let step = (documents.len() / REQUESTS).max(1);
    let ids = documents.iter().step_by(step).map(|document| document[key].clone());
    ids.map(|id| json!({ "filter": format!("{key} = {id}") })).take(REQUESTS).collect()
}
