//! Preparing a node for the documents that a repair will copy: the index there, with its primary key and settings.
//!
//! Before the first document, because most are copied while writes go on. With the key and the settings that it had when
//! it went away, a node would refuse them, or take them for others, for as long as the repair is tried.
//!
//! What other nodes hold, a node can then refuse only for what it holds itself: a document whose `_geo` is no place, say,
//! which was removed elsewhere before places became sortable, and which it can no longer replace, or even delete. So it
//! begins with an empty index.

use http::Method;
use miroir_core::settings::canonical_hash;
use miroir_node::{Call, NodeError};

use super::ensure::{
    CALL_LIMIT, DRAIN_LIMIT, RepairError, TASK_LIMIT, ensure_index, held_index, hold, note_disorder,
};
use super::node_tasks::{carry_out, wait_until_idle};
use super::repair::Repair;
use super::settings::read_settings;
use crate::index::IndexView;
use crate::write::encode;

impl Repair<'_> {
    /// Makes the index on the node as it has to be, if it is not.
    pub(super) async fn prepare(&self, begun: &IndexView) -> Result<(), RepairError> {
        // What it still has to do may be to delete the index.
        self.wait_until_idle(begun).await?;
        if self.is_prepared(begun).await? {
            return Ok(());
        }
        hold(self.cluster, self.index, async {
            // As it is now: it may have been deleted and made anew while this waited for its turn.
            let Some(now) = self.index.view().filter(|_| self.still_wanted(begun, self.shards)) else {
                return Err(RepairError::NotNow("the replicas have changed meanwhile".to_owned()));
            };
            ensure_index(self.cluster, self.target, &now).await?;
            note_disorder(self.cluster, self.index, self.target).await
        })
        .await
    }

    /// Whether the node has the index with the primary key and the settings agreed.
    async fn is_prepared(&self, view: &IndexView) -> Result<bool, NodeError> {
        let uid = &view.record.node_uid;
        let held = held_index(self.target, uid).await?;
        let has_key = held.is_some_and(|held| held.primary_key == view.record.primary_key);
        Ok(has_key && canonical_hash(&read_settings(self.target, uid).await?) == view.record.settings_hash)
    }

    /// Before writes have to wait for it: the node may be applying settings that it missed.
    pub(super) async fn wait_until_idle(&self, view: &IndexView) -> Result<(), NodeError> {
        self.tell("waiting for earlier writes");
        wait_until_idle(self.target, &view.record.node_uid, DRAIN_LIMIT).await
    }

    /// Has the node give up what it holds of the index, for it refused something that others hold. Not where some of it
    /// is read, or is all that is left within reach.
    pub(super) async fn begin_anew(&self, begun: &IndexView, refusal: NodeError) -> Result<(), RepairError> {
        self.wait_until_idle(begun).await?;
        hold(self.cluster, self.index, async {
            let name = self.target.id().as_str();
            let is_read = |now: &IndexView| {
                now.shards_on(name).into_iter().any(|shard| now.replica_state(shard, name).is_readable())
            };
            let may_go = |now: &IndexView| {
                self.still_wanted(begun, self.shards) && !is_read(now) && self.is_complete_elsewhere(now)
            };
            let Some(now) = self.index.view().filter(|now| may_go(now)) else {
                return Err(refusal.into());
            };
            let (index, uid) = (&now.record.uid, &now.record.node_uid);
            tracing::warn!(%index, node = name, error = %refusal, "the node is to begin with an empty index");
            if held_index(self.target, uid).await?.is_some() {
                let path = format!("/indexes/{}", encode(uid));
                carry_out(self.target, &Call::new(Method::DELETE, path, CALL_LIMIT), TASK_LIMIT).await?;
            }
            Ok(())
        })
        .await
    }
}
