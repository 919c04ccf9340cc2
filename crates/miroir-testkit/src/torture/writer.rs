//! A client that writes: one write after the other, each sent until it is acknowledged, its task watched to the end.
//!
//! An answer that leaves open whether the write was done is followed by the same write again. Nothing else is sent
//! to those documents before, so done once or twice comes to the same. So is a write whose task failed because of a node
//! (its disk was full, say) that held the only active copy of some shard: other shards may have done their part. What
//! later writes of the same client did meanwhile does not matter: whatever of it the write touches is as the write says
//! once it is done, and the rest it never touched. Until then nothing is asked of its documents.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Stage;
use super::report::Violation;
use super::write::{Write, Writes};
use crate::corpus::Dice;

/// Longest time until a write is acknowledged, and until its task is over: longer than any injury, and all the
/// repairs after it.
const LIMIT: Duration = Duration::from_secs(300);
/// Writes of one client that are acknowledged and not over.
const MOST_OPEN: usize = 8;
/// Types of errors with which a task fails that was right: it is the state of a node, such as a full disk.
const FAILURES_OF_NODES: [&str; 2] = ["internal", "system"];
const PAUSE_BEFORE_AGAIN: Duration = Duration::from_millis(100);

/// One writing client.
#[derive(Debug)]
pub struct Writer {
    name: String,
    writes: Writes,
    dice: Dice,
    pause: u64,
    open: VecDeque<(Write, u64)>,
}

impl Writer {
    /// A client that pauses up to `pause` milliseconds between its writes.
    pub fn new(name: String, writes: Writes, seed: u64, pause: u64) -> Self {
        Self { name, writes, dice: Dice::new(seed), pause, open: VecDeque::new() }
    }

    /// Writes until told to stop, then waits until all it sent is over.
    pub async fn run(&mut self, stage: &Arc<Stage>, stop: &CancellationToken) {
        while !stop.is_cancelled() && !stage.is_broken() {
            let Some(write) = self.writes.next() else { return };
            {
                // What destroys a copy waits until nothing is on its way.
                let _gate = stage.gate.read().await;
                stage.model().begin(&write);
                let Some(task) = self.send(stage, &write).await else { return };
                self.open.push_back((write, task));
            }
            self.look_at_tasks(stage, MOST_OPEN).await;
            let pause = Duration::from_millis(self.dice.below(self.pause as usize + 1) as u64);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.look_at_tasks(stage, 0).await;
    }

    /// Sends a write until it is acknowledged; returns its task.
    async fn send(&self, stage: &Stage, write: &Write) -> Option<u64> {
        let (method, path, body) = write.request(super::INDEX);
        let bytes = body.map(|body| serde_json::to_vec(&body).expect("a value is always JSON"));
        let headers: &[(&str, &str)] =
            if bytes.is_some() { &[("content-type", "application/json")] } else { &[] };
        stage.report.note(format_args!("{} {} {:?}", self.name, write.kind(), write.ids()));
        let started = Instant::now();
        loop {
            let answer = stage.client.try_send(method.clone(), &path, headers, bytes.clone()).await;
            let outcome = match answer {
                Ok(answer) if answer.status == 202 => {
                    let degraded =
                        if answer.header("x-miroir-degraded").is_some() { ", degraded" } else { "" };
                    let task = answer.task_uid();
                    stage.report.took("writes until acknowledged", started.elapsed());
                    stage.report.count("writes", format!("{}: acknowledged{degraded}", write.kind()));
                    stage.report.note(format_args!("{} task {task:?}{degraded}", self.name));
                    if task.is_none() {
                        stage
                            .report
                            .violation(Violation::WrongAnswer, format_args!("no task: {}", answer.body));
                    }
                    return task;
                }
                Ok(answer) => {
                    let code = answer.body["code"].as_str().unwrap_or("without a code").to_owned();
                    let may_pass = answer.status >= 500 || matches!(answer.status, 408 | 429);
                    if !may_pass {
                        let what = format!("{} {path} was refused: {}", write.kind(), answer.body);
                        stage.report.violation(Violation::WrongAnswer, what);
                    }
                    format!("{} {code}", answer.status)
                }
                Err(_) => "no answer".to_owned(),
            };
            stage.report.note(format_args!("{} again after {outcome}", self.name));
            stage.report.count("writes", format!("{}: {outcome}, sent again", write.kind()));
            if started.elapsed() > LIMIT || stage.is_broken() {
                let what = format!(
                    "{} by {} is not acknowledged after {LIMIT:?}: {outcome}",
                    write.kind(),
                    self.name
                );
                stage.give_up(what);
                return None;
            }
            tokio::time::sleep(PAUSE_BEFORE_AGAIN).await;
        }
    }

    /// Takes note of tasks that are over, oldest first, until at most `most` are open.
    async fn look_at_tasks(&mut self, stage: &Stage, most: usize) {
        let started = Instant::now();
        while let Some((write, task)) = self.open.front() {
            match task_end(stage, *task).await {
                Some(end) => {
                    let succeeded = end["status"] == "succeeded";
                    stage.report.note(format_args!("{} task {task} {}", self.name, end["status"]));
                    let reason = end["error"]["code"].as_str().unwrap_or("without a reason");
                    if !succeeded {
                        stage.report.count("tasks failed", format!("{}: {reason}", write.kind()));
                        stage.report.note(format_args!("{} {}", self.name, end["error"]));
                    }
                    let kind = end["error"]["type"].as_str().unwrap_or_default();
                    if !succeeded && FAILURES_OF_NODES.contains(&kind) {
                        let Some((write, _)) = self.open.pop_front() else { return };
                        let Some(task) = self.send(stage, &write).await else { return };
                        self.open.push_back((write, task));
                    } else {
                        stage.model().end(write, *task, succeeded);
                        self.open.pop_front();
                    }
                }
                None if self.open.len() <= most => return,
                None if started.elapsed() > LIMIT || stage.is_broken() => {
                    let what = format!("task {task} of {} is not over after {LIMIT:?}", self.name);
                    return stage.give_up(what);
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// The task if it is over.
async fn task_end(stage: &Stage, task: u64) -> Option<Value> {
    let answer = stage.client.try_send(Method::GET, &format!("/tasks/{task}"), &[], None).await.ok()?;
    match answer.status {
        200 => matches!(answer.body["status"].as_str(), Some("succeeded" | "failed" | "canceled"))
            .then_some(answer.body),
        404 => {
            stage
                .report
                .violation(Violation::Lost, format_args!("task {task} was acknowledged and is unknown"));
            Some(serde_json::json!({ "status": "forgotten" }))
        }
        _ => None,
    }
}
