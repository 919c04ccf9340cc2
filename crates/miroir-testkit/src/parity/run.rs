//! Sending sequences to both servers, several at a time, and comparing every answer and every finished task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::Value;

use super::differs::{Kind, comparable, comparable_headers, kind};
use super::sequence::{Sequence, Step, Subject};
use super::token;
use crate::client::{Answer, Client};
use crate::cluster::MASTER_KEY;
use crate::compare::{Difference, compare_values};
use crate::oracle::{Oracle, Subject as Server};

/// Sequences at the same time: as many as keep two processors busy while tasks are waited for.
const AT_A_TIME: usize = 12;
/// Longest time for one sequence: so that one that hangs is named.
const SEQUENCE_LIMIT: Duration = Duration::from_secs(120);

/// What running all sequences came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many sequences were run.
    pub sequences: usize,
    /// How many requests they consist of.
    pub requests: usize,
    /// Every error code that Meilisearch answered with, or a task of it failed with.
    pub codes: BTreeSet<String>,
    /// The sequences that are known to differ, and why.
    pub known: Vec<String>,
    /// What differs, by sequence.
    pub differences: Vec<String>,
}

/// Runs the sequences: first those that need the servers for themselves, in order.
pub async fn run(oracle: &Oracle, subjects: &[Subject]) -> Outcome {
    let mut outcome = Outcome::default();
    for subject in subjects.iter().filter(|subject| subject.alone) {
        for sequence in &subject.sequences {
            outcome.add(run_sequence(oracle, subject, Both::default(), sequence).await);
        }
    }
    let others: Vec<&Subject> = subjects.iter().filter(|subject| !subject.alone).collect();
    let mut given = Vec::new();
    for subject in &others {
        given.push(async move {
            let mut both = Both::default();
            let shared = Sequence {
                title: "what is given".to_owned(),
                index: subject.name.clone(),
                steps: subject.given.clone(),
                differs: None,
            };
            let done = both.follow(oracle, subject, &shared).await;
            (done, both)
        });
    }
    let mut ready = Vec::new();
    for (done, both) in futures_util::stream::iter(given).buffered(AT_A_TIME).collect::<Vec<_>>().await {
        outcome.add(done);
        ready.push(both);
    }
    outcome.sequences = outcome.sequences.saturating_sub(others.len());
    let sequences = others.iter().zip(&ready).flat_map(|(subject, both)| {
        let inherited = |sequence| run_sequence(oracle, subject, both.clone(), sequence);
        subject.sequences.iter().map(inherited)
    });
    let mut running = futures_util::stream::iter(sequences).buffer_unordered(AT_A_TIME);
    while let Some(done) = running.next().await {
        outcome.add(done);
    }
    outcome
}

async fn run_sequence(oracle: &Oracle, subject: &Subject, mut both: Both, sequence: &Sequence) -> Done {
    let following = both.follow(oracle, subject, sequence);
    tokio::time::timeout(SEQUENCE_LIMIT, following)
        .await
        .unwrap_or_else(|_| panic!("{} does not come to its end", sequence.index))
}

impl Outcome {
    fn add(&mut self, done: Done) {
        self.sequences += 1;
        self.requests += done.requests;
        self.codes.extend(done.codes);
        match (done.known, done.differences.is_empty()) {
            (None, true) => {}
            (None, false) => self.differences.push(format!("== {}\n{}", done.name, done.differences)),
            (Some(why), false) => self.known.push(format!("{}: {why}", done.name)),
            (Some(_), true) => self.differences.push(format!("== {} does not differ any more\n", done.name)),
        }
    }
}

/// What one sequence came to.
struct Done {
    name: String,
    requests: usize,
    codes: BTreeSet<String>,
    known: Option<String>,
    differences: String,
}

/// What a sequence has kept of the answers of the two servers.
#[derive(Clone, Default)]
struct Both {
    reference: Memory,
    subject: Memory,
}

#[derive(Clone, Default)]
struct Memory {
    names: BTreeMap<String, String>,
    tasks: Vec<u64>,
}

impl Both {
    async fn follow(&mut self, oracle: &Oracle, subject: &Subject, sequence: &Sequence) -> Done {
        let mut done = Done {
            name: format!("{}: {}", subject.name, sequence.title),
            requests: 0,
            codes: BTreeSet::new(),
            // Two of the same kind never differ.
            known: sequence.differs.clone().filter(|_| matches!(oracle.subject, Server::Cluster(_))),
            differences: String::new(),
        };
        for memory in [&mut self.reference, &mut self.subject] {
            memory.names.insert(String::new(), sequence.index.clone());
            memory.names.insert("shared".to_owned(), subject.name.clone());
            memory.names.insert("master".to_owned(), MASTER_KEY.to_owned());
        }
        for step in &sequence.steps {
            if step.method == "TOKEN" {
                self.reference.make_token(step);
                self.subject.make_token(step);
                continue;
            }
            let (expected, found) = tokio::join!(
                self.reference.ask(oracle.reference_client(), step),
                self.subject.ask(oracle.subject_client(), step)
            );
            done.requests += 1;
            for body in [Some(&expected.answer.body), expected.task.as_ref().map(|task| &task["error"])] {
                done.codes.extend(body.and_then(|body| body["code"].as_str()).map(str::to_owned));
            }
            let difference = self.compare(step, &expected, &found);
            if !difference.is_empty() {
                let Step { method, target, body, .. } = step;
                let shown: String = body.as_deref().unwrap_or_default().chars().take(300).collect();
                done.differences += &format!("- {method} {target} {shown}\n{difference}");
            }
        }
        done
    }

    fn compare(&self, step: &Step, expected: &Heard, found: &Heard) -> Difference {
        let mut difference = Difference::default();
        let (one, other) = (&expected.answer, &found.answer);
        if one.status != other.status {
            let shown = |answer: &Answer| format!("{} {}", answer.status, answer.body);
            difference.places.push(("status".to_owned(), shown(one), shown(other)));
            return difference;
        }
        let headers = |answer: &Answer| comparable_headers(&answer.headers);
        compare_values("headers", &headers(one), &headers(other), &mut difference);
        let kind = if one.task_uid().is_some() { Kind::Tasks } else { kind(&step.target) };
        let body = |answer: &Answer, memory: &Memory| comparable(kind, &answer.body, &memory.tasks);
        compare_values("", &body(one, &self.reference), &body(other, &self.subject), &mut difference);
        let task = |heard: &Heard, memory: &Memory| {
            comparable(Kind::Tasks, heard.task.as_ref().unwrap_or(&Value::Null), &memory.tasks)
        };
        let (one, other) = (task(expected, &self.reference), task(found, &self.subject));
        compare_values("task", &one, &other, &mut difference);
        difference
    }
}

/// An answer, and the finished task it announced.
struct Heard {
    answer: Answer,
    task: Option<Value>,
}

impl Memory {
    async fn ask(&mut self, client: &Client, step: &Step) -> Heard {
        let method = Method::from_bytes(step.method.as_bytes()).expect("methods are ASCII");
        let mut headers: Vec<(String, String)> =
            step.headers.iter().map(|(name, value)| (name.clone(), self.filled(value))).collect();
        let says = |name: &str| headers.iter().any(|(said, _)| said == name);
        let client = client.with_key((!says("authorization")).then_some(MASTER_KEY));
        if step.body.is_some() && !says("content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        headers.retain(|(_, value)| !value.is_empty());
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = step.body.as_deref().map(|body| self.filled(body).into_bytes());
        let answer = client.send(method, &self.filled(&step.target), &headers, body).await;
        let mut task = None;
        if let Some(uid) = answer.task_uid() {
            self.tasks.push(uid);
            self.names.insert("task".to_owned(), uid.to_string());
            task = Some(client.with_key(Some(MASTER_KEY)).wait_task(uid).await);
        }
        for (name, pointer) in &step.kept {
            let value = answer.body.pointer(pointer).unwrap_or(&Value::Null);
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.names.insert(name.clone(), text);
        }
        Heard { answer, task }
    }

    fn make_token(&mut self, step: &Step) {
        let words: Vec<&str> = step.target.split(' ').collect();
        let [name, algorithm, key] = words[..] else { panic!("TOKEN name ALGORITHM $key {{claims}}") };
        let claims = self.filled(step.body.as_deref().unwrap_or_default());
        let claims = serde_json::from_str(&claims).expect("claims are JSON");
        let token = token::make(algorithm, &self.filled(key), &claims);
        self.names.insert(name.to_owned(), token);
    }

    /// A text with its `$names` replaced.
    fn filled(&self, text: &str) -> String {
        let mut parts = text.split('$');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(part.len());
            let value = self.names.get(&part[..end]);
            filled += value.unwrap_or_else(|| panic!("nothing is called ${} in {text:?}", &part[..end]));
            filled += &part[end..];
        }
        filled
    }
}
