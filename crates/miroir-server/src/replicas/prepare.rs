//! Preparing a node for the documents that a repair will copy: the index there, with its primary key and settings.
//!
//! Before the first document, because most are copied while writes go on. With the key and the settings that it had when
//! it went away, a node would refuse them, or take them for others, for as long as the repair is tried.

use miroir_core::settings::canonical_hash;
use miroir_node::NodeError;

use super::ensure::{DRAIN_LIMIT, RepairError, ensure_index, held_index, hold, note_disorder};
use super::node_tasks::wait_until_idle;
use super::repair::Repair;
use super::settings::read_settings;
use crate::index::IndexView;

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
            ensure_index(self.cluster, self.target, &*self.now(begun)?).await?;
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
}
