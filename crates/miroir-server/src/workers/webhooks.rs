//! Telling webhooks what has ended. Each has at most one request on its way, so that it hears of tasks in order, and none
//! waits for another.
//!
//! One that does not take what it is told is told again, ever more rarely, and then it misses that: a receiver that
//! is gone must not be asked for ever. A receiver that took it and whose answer was lost hears of it twice.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::worker::{Report, Worker};
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::webhooks::{Delivery, Sender, Webhook};

/// How often the same is told, over half an hour.
const MOST_TRIES: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Tasks may end unnoticed by this worker; it looks by itself.
const WAITING_OUTCOMES: usize = 32;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The worker.
pub(crate) struct WebhookWorker {
    sender: Sender,
    /// What is on its way; dropped, and with it given up, when the worker ends.
    on_the_way: JoinSet<()>,
    /// How it went, in a queue that never has more than one of each webhook.
    outcomes: (mpsc::Sender<Outcome>, mpsc::Receiver<Outcome>),
    busy: HashSet<Uuid>,
    failing: HashMap<Uuid, Failing>,
}

/// How telling a webhook went.
struct Outcome {
    uuid: Uuid,
    url: String,
    last: u64,
    tasks: usize,
    error: Option<String>,
}

/// One that did not take what it was told.
struct Failing {
    tries: u32,
    backoff: Backoff,
    not_before: Instant,
    /// The last end of a task that it was told of at the first try.
    last: u64,
    /// As it was then.
    webhook: Option<Webhook>,
}

/// An address without what may be a secret in it.
fn origin_of(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| "no address".to_owned(), |url| url.origin().ascii_serialization())
}

impl WebhookWorker {
    /// One that has told nobody yet.
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            on_the_way: JoinSet::new(),
            outcomes: mpsc::channel(WAITING_OUTCOMES),
            busy: HashSet::new(),
            failing: HashMap::new(),
        }
    }

    async fn take_note(&mut self, cluster: &Cluster, report: &Report, outcome: Outcome) {
        let Outcome { uuid, url, mut last, tasks, error } = outcome;
        self.busy.remove(&uuid);
        let url = origin_of(&url);
        if let Some(error) = error {
            report.failed(&format!("webhook `{uuid}` ({url}): {error}"));
            let failing = self.failing.entry(uuid).or_insert_with(|| Failing {
                tries: 0,
                backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
                not_before: Instant::now(),
                last,
                webhook: cluster.webhooks.find(uuid).ok(),
            });
            failing.tries += 1;
            failing.not_before = Instant::now() + failing.backoff.fail();
            if failing.tries < MOST_TRIES {
                if failing.backoff.is_worth_telling() {
                    tracing::warn!(webhook = %uuid, url, error, "a webhook did not take what it was told");
                }
                return;
            }
            tracing::error!(webhook = %uuid, url, error, tasks, "a webhook never took what it was told");
            // What has ended since has not been tried as often.
            last = failing.last;
        }
        self.failing.remove(&uuid);
        match cluster.webhooks.told(cluster.store.as_ref(), uuid, last).await {
            Ok(()) => report.finished(),
            // It is told again.
            Err(error) => report.failed(&error.message),
        }
    }

    /// Sends what there is to tell to those that can be told now.
    async fn tell(&mut self, cluster: &Arc<Cluster>, report: &Report) {
        let all = cluster.webhooks.all();
        // One that has been corrected is told at once.
        let is_as_it_was = |uuid: &Uuid, failing: &Failing| {
            let failed = failing.webhook.as_ref().map(|webhook| (&webhook.url, &webhook.headers));
            all.get(uuid).is_some_and(|webhook| failed == Some((&webhook.url, &webhook.headers)))
        };
        self.failing.retain(|uuid, failing| is_as_it_was(uuid, failing));
        for (uuid, webhook) in all.iter() {
            if self.busy.contains(uuid) {
                continue;
            }
            if self.failing.get(uuid).is_some_and(|failing| failing.not_before > Instant::now()) {
                continue;
            }
            let delivery = match Delivery::next(cluster.store.as_ref(), webhook).await {
                Ok(Some(delivery)) => delivery,
                Ok(None) => continue,
                Err(error) => return report.failed(&error.to_string()),
            };
            self.busy.insert(*uuid);
            let (uuid, webhook, cluster) = (*uuid, webhook.clone(), Arc::clone(cluster));
            let (sender, outcomes) = (self.sender.clone(), self.outcomes.0.clone());
            self.on_the_way.spawn(async move {
                let error = sender.send(&webhook, &delivery).await.err();
                let (last, tasks) = (delivery.last, delivery.tasks);
                // Fails only when the worker has ended.
                let _ = outcomes.send(Outcome { uuid, url: webhook.url, last, tasks, error }).await;
                cluster.webhooks.news.notify_one();
            });
        }
    }
}

#[async_trait]
impl Worker for WebhookWorker {
    fn name(&self) -> &'static str {
        "webhooks"
    }

    async fn step(&mut self, cluster: &Arc<Cluster>, report: &Report) -> Duration {
        while self.on_the_way.try_join_next().is_some() {}
        while let Ok(outcome) = self.outcomes.1.try_recv() {
            self.take_note(cluster, report, outcome).await;
        }
        self.tell(cluster, report).await;
        LOOK_EVERY
    }

    fn woken_by<'a>(&self, cluster: &'a Cluster) -> Option<&'a Notify> {
        Some(&cluster.webhooks.news)
    }
}
