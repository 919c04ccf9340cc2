//! A client that reads while everything breaks: what is settled must be there as it should, or the answer must say
//! that it is not whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::model::Expected;
use super::report::Violation;
use super::write::{Document, FIRST_SEALED, id_of, lot_of};
use super::{INDEX, Stage};
use crate::client::Answer;
use crate::corpus::Dice;

/// One reading client.
#[derive(Debug)]
pub struct Reader {
    dice: Dice,
}

/// A read, and what it must find at least.
struct Read {
    kind: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
    expected: Vec<Expected>,
    /// Of the answer's totals, when nothing but sealed documents is looked for.
    total: Option<usize>,
}

impl Reader {
    /// The reads of a seed.
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed) }
    }

    /// Reads until told to stop.
    pub async fn run(&mut self, stage: &Arc<Stage>, stop: &CancellationToken) {
        while !stop.is_cancelled() && !stage.is_broken() {
            if let Some(read) = self.draw(stage) {
                self.carry_out(stage, read).await;
            }
            let pause = Duration::from_millis(self.dice.below(40) as u64);
            tokio::time::sleep(pause).await;
        }
    }

    fn draw(&mut self, stage: &Stage) -> Option<Read> {
        let id = self.dice.below((stage.options.ids * stage.options.writers) as usize) as u64;
        let model = stage.model();
        let one = || model.settled([id]);
        let search = |kind, body, expected, total| Read {
            kind,
            method: Method::POST,
            path: format!("/indexes/{INDEX}/search"),
            body: Some(body),
            expected,
            total,
        };
        let drawn = self.dice.below(8);
        Some(match drawn {
            0 | 1 => search("search by id", json!({ "filter": format!("id = {id}") }), one(), None),
            2 | 3 => {
                let expected = one();
                let word = expected.first()?.content.as_ref()?.get("word")?.clone();
                search("search by word", json!({ "q": word }), expected, None)
            }
            4 => {
                let lot = lot_of(id, stage.options.writers);
                let ids = (0..stage.options.ids * stage.options.writers)
                    .filter(|id| lot_of(*id, stage.options.writers) == lot);
                let body = json!({ "filter": format!("lot = {lot}"), "limit": 1000, "sort": ["rank:desc"] });
                search("search by lot", body, model.settled(ids), None)
            }
            5 | 6 => {
                let sealed = stage.options.sealed as usize;
                let mut body = json!({
                    "filter": "sealed = true", "sort": ["rank:asc"], "facets": ["sealed"], "hitsPerPage": sealed + 10,
                });
                if drawn == 6 {
                    body["attributesToRetrieve"] = json!(["id"]);
                }
                // Whole documents are compared only where they were asked for.
                let ids = FIRST_SEALED..FIRST_SEALED + stage.options.sealed;
                let expected = if drawn == 5 { model.settled(ids) } else { Vec::new() };
                search("search of the sealed", body, expected, Some(sealed))
            }
            _ => Read {
                kind: "document by id",
                method: Method::GET,
                path: format!("/indexes/{INDEX}/documents/{id}"),
                body: None,
                expected: one(),
                total: None,
            },
        })
    }

    async fn carry_out(&mut self, stage: &Stage, read: Read) {
        let bytes = read.body.as_ref().map(|body| serde_json::to_vec(body).expect("a value is always JSON"));
        let headers: &[(&str, &str)] =
            if bytes.is_some() { &[("content-type", "application/json")] } else { &[] };
        let started = Instant::now();
        let answer = stage.client.try_send(read.method.clone(), &read.path, headers, bytes).await;
        let Ok(answer) = answer else {
            stage.report.count("reads", format!("{}: no answer", read.kind));
            // Miroir is being started again.
            return tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let time = started.elapsed();
        stage.report.took("reads answered", time);
        let degraded = answer.header("x-miroir-degraded").is_some();
        let note = if degraded { ", degraded" } else { "" };
        match answer.status {
            200 => stage.report.count("reads", format!("{}: answered{note}", read.kind)),
            404 if read.method == Method::GET => {
                stage.report.count("reads", format!("{}: not found{note}", read.kind));
            }
            status => {
                let code = answer.body["code"].as_str().unwrap_or("without a code");
                stage.report.count("reads", format!("{}: {status} {code}", read.kind));
                if status < 500 {
                    let what = format!("{} was answered {status}: {}", read.kind, answer.body);
                    stage.report.violation(Violation::WrongAnswer, what);
                }
                return;
            }
        }
        judge(stage, &read, &answer, degraded);
    }
}

/// The documents of an answer.
fn found(read: &Read, answer: &Answer) -> Vec<Document> {
    if read.method == Method::GET {
        let is_document = answer.status == 200;
        return is_document.then(|| answer.body.as_object().cloned()).flatten().into_iter().collect();
    }
    let hits = answer.body["hits"].as_array().cloned().unwrap_or_default();
    hits.into_iter().filter_map(|hit| hit.as_object().cloned()).collect()
}

fn judge(stage: &Stage, read: &Read, answer: &Answer, degraded: bool) {
    let documents = found(read, answer);
    let mut ids = BTreeSet::new();
    for document in &documents {
        if !ids.insert(id_of(document)) {
            let what = format!("{} {:?} found {:?} twice", read.kind, read.body, id_of(document));
            stage.report.violation(Violation::Duplicate, what);
        }
    }
    if let Some(total) = read.total.filter(|_| !degraded) {
        let totals =
            (documents.len(), &answer.body["totalHits"], &answer.body["facetDistribution"]["sealed"]["true"]);
        if totals.0 != total || *totals.1 != json!(total) || *totals.2 != json!(total) {
            let what = format!("{}: {totals:?} of {total} documents, totals and facets", read.kind);
            stage.report.violation(Violation::SilentPartial, what);
        }
    }
    let documents: BTreeMap<u64, Document> =
        documents.into_iter().filter_map(|document| Some((id_of(&document)?, document))).collect();
    // What has been written to since it was asked for may be found either way.
    let expected: Vec<&Expected> = {
        let model = stage.model();
        let holds = |expected: &&Expected| expected.doubt.is_none() && model.still_holds(expected);
        read.expected.iter().filter(holds).collect()
    };
    for expected in expected {
        let found = documents.get(&expected.id);
        let what = |found: &dyn std::fmt::Debug| {
            let (kind, id, wanted) = (read.kind, expected.id, json!(expected.content));
            format!("{kind} {:?}: document {id} must be {wanted}, found {found:?}", read.body)
        };
        match (&expected.content, found) {
            (Some(content), Some(found)) if content == found => {}
            (None, None) => {}
            // The hit of a word that is not its own is another document's affair.
            (None, Some(found)) => {
                stage.report.violation(Violation::Resurrected, what(&json!(found)));
            }
            (Some(_), Some(found)) => stage.report.violation(Violation::SilentPartial, what(&json!(found))),
            (Some(_), None) if degraded => {}
            (Some(_), None) => stage.report.violation(Violation::SilentPartial, what(&"nothing")),
        }
    }
}
