//! After a crash: what was recorded and not acknowledged is sent again.
//!
//! An intent found open belongs to a write that no client was told about, and no later write of that index was
//! sent. Sending it again, whole, to every node makes all replicas share the same outcome, whether or not some
//! had it already. The index's queue is held meanwhile, so nothing overtakes it.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use miroir_core::documents::StampedDocuments;
use miroir_store::{StoreError, TaskRecord};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::write::dispatch::Dispatch;
use crate::write::operation::{Operation, Payload};
use crate::write::positions::PendingWrites;
use crate::write::sequencer::remember;

const PAUSE_BETWEEN_TRIES: Duration = Duration::from_millis(500);

impl Cluster {
    /// Takes up the intents an earlier life left open. Returns once every queue concerned is held, so that no
    /// new write can overtake; the sending itself goes on in the background until the nodes are there.
    pub(crate) async fn recover_writes(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut by_index: std::collections::BTreeMap<String, Vec<(TaskRecord, Value)>> = Default::default();
        for (task, operation) in self.store.open_intents().await? {
            by_index.entry(task.index_uid.clone().unwrap_or_default()).or_default().push((task, operation));
        }
        for (uid, intents) in by_index {
            let (cluster, index) = (Arc::clone(self), self.handle(&uid));
            let (held, is_held) = tokio::sync::oneshot::channel();
            self.tasks.spawn(async move {
                let mut pending = index.queue.lock().await;
                // The receiver waits right below.
                let _ = held.send(());
                for (task, operation) in intents {
                    cluster.send_again(&index, &mut pending, task, operation).await;
                }
            });
            // An error would mean that the task ended early, which leaves nothing to wait for.
            let _ = is_held.await;
        }
        Ok(())
    }

    async fn send_again(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        task: TaskRecord,
        operation: Value,
    ) {
        loop {
            match self.try_again(index, pending, &task, &operation).await {
                Ok(()) => return,
                Err(reason) => {
                    tracing::warn!(task = task.uid, reason, "cannot finish an interrupted write yet")
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE_BETWEEN_TRIES) => {}
            }
        }
    }

    async fn try_again(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        task: &TaskRecord,
        operation: &Value,
    ) -> Result<(), String> {
        let operation: Operation =
            serde_json::from_value(operation.clone()).map_err(|error| error.to_string())?;
        let payload = self.stored_payload(task.uid).await?;
        let view = index.view();
        let shards = view.as_ref().map_or(1, |view| view.record.shards);
        let (targets, concerned) = match &view {
            Some(view) => {
                let concerned = operation.shards_concerned(shards, &payload);
                (self.targets(view, &operation, &concerned), concerned)
            }
            // The index is gone from the store already; its remains may be on any node.
            None => (self.fleet.iter().map(|node| (node.id().to_string(), Vec::new())).collect(), Vec::new()),
        };
        let dispatch = Dispatch {
            uid: &index.uid,
            shards,
            operation: &operation,
            payload: &payload,
            targets,
            try_one_first: false,
        };
        let dispatched = self.dispatch(&dispatch).await;
        let gone;
        let view = match &view {
            Some(view) => view,
            None => {
                let record =
                    miroir_store::IndexRecord { placement: Vec::new(), ..self.new_record(&index.uid, "") };
                gone = Arc::new(IndexView::new(record, Default::default(), None));
                &gone
            }
        };
        let (_, unconfirmed) = dispatched.judge(view, &concerned, self.config.min_write_acks);
        if let Some((status, body)) = &dispatched.rejected {
            // A request that nodes find wrong stays wrong: the task ends as failed, nothing was applied.
            let error = self.node_refusal(Some(view), *status, body);
            let outcome = super::sequencer::failed_outcome(&error);
            return self.store.abandon_intent(task.uid, outcome).await.map_err(|error| error.to_string());
        }
        if !unconfirmed.is_empty() {
            let reasons: Vec<&str> = dispatched.missed.values().map(String::as_str).collect();
            return Err(reasons.join("; "));
        }
        remember(pending, task.uid, &operation, &payload);
        self.acknowledge(index, pending, task.uid, &dispatched, view, &concerned)
            .await
            .map(|_| tracing::info!(task = task.uid, "finished an interrupted write"))
            .map_err(|error| error.to_string())
    }

    async fn stored_payload(&self, task: u64) -> Result<Payload, String> {
        let mut body = BytesMut::new();
        let mut last = None;
        let read =
            async |last| self.store.intent_payload(task, last).await.map_err(|error| error.to_string());
        while let Some(chunk) = read(last).await? {
            last = Some(chunk.seq);
            body.extend_from_slice(&chunk.bytes);
        }
        if body.is_empty() {
            return Ok(Payload::None);
        }
        let documents = StampedDocuments::parse(body.freeze());
        documents.map(Payload::Stored).ok_or_else(|| "the stored documents cannot be read".to_owned())
    }
}
