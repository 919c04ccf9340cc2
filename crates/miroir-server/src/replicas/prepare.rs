//! Preparing a node for the documents that a repair will copy: the index there, with its primary key and settings.
//!
//! Before the first document, because most are copied while writes go on. With the key and the settings that it had when
//! it went away, a node would refuse them, or take them for others, for as long as the repair is tried. With new settings
//! in turn it may refuse to touch documents that were changed or removed elsewhere before these were given: what a
//! `_geo` that is no place says, or vectors of another length. So those are removed first of all.

use miroir_core::settings::{canonical_hash, is_ours};
use miroir_node::NodeError;

use super::copy::Copy;
use super::ensure::{DRAIN_LIMIT, Ensured, RepairError, ensure_index, held_index, hold, note_disorder};
use super::holdings::Compare;
use super::node_tasks::wait_until_idle;
use super::repair::{Repair, parts};
use super::settings::read_settings;
use super::verify::strays_of;
use crate::index::IndexView;

/// What a node has of an index.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    /// The index with the primary key and the settings agreed.
    AsAgreed,
    /// With the primary key, and other settings.
    WithOtherSettings,
    /// None, or one without a document that could stay.
    Nothing,
}

impl Repair<'_> {
    /// Makes the index on the node as it has to be, if it is not.
    pub(super) async fn prepare(&self, view: &IndexView) -> Result<(), RepairError> {
        match self.held(view).await? {
            Held::AsAgreed => return Ok(()),
            Held::WithOtherSettings => drop(self.make_room(view).await?),
            Held::Nothing => {}
        }
        self.wait_until_idle(view).await?;
        hold(self.cluster, self.index, async {
            // As it is now: it may have been deleted and made anew while this waited for its turn.
            let Some(now) = self.index.view().filter(|_| self.still_wanted(view, self.shards)) else {
                return Err(RepairError::NotNow("the replicas have changed meanwhile".to_owned()));
            };
            self.ensure(&now, Some(view)).await.map(drop)
        })
        .await
    }

    /// The same with the index's queue held. There is room for the settings as they were when `roomy` was so. Returns
    /// what it took.
    pub(super) async fn ensure(
        &self,
        view: &IndexView,
        roomy: Option<&IndexView>,
    ) -> Result<Ensured, RepairError> {
        let is_roomy = roomy.is_some_and(|roomy| roomy.record.settings_hash == view.record.settings_hash);
        let mut room = Vec::new();
        if !is_roomy && self.held(view).await? == Held::WithOtherSettings {
            room = self.make_room(view).await?;
        }
        let mut ensured = ensure_index(self.cluster, self.target, view).await?;
        ensured.tasks.extend(room);
        note_disorder(self.cluster, self.index, self.target).await?;
        Ok(ensured)
    }

    /// Before writes have to wait for it: the node may be applying settings that it missed.
    pub(super) async fn wait_until_idle(&self, view: &IndexView) -> Result<(), NodeError> {
        self.tell("waiting for earlier writes");
        wait_until_idle(self.target, &view.record.node_uid, DRAIN_LIMIT).await
    }

    async fn held(&self, view: &IndexView) -> Result<Held, NodeError> {
        let uid = &view.record.node_uid;
        let held = held_index(self.target, uid).await?;
        if held.is_none_or(|held| held.primary_key != view.record.primary_key) {
            return Ok(Held::Nothing);
        }
        let settings = read_settings(self.target, uid).await?;
        Ok(match canonical_hash(&settings) == view.record.settings_hash {
            true => Held::AsAgreed,
            false if is_ours(&settings) => Held::WithOtherSettings,
            // Miroir was killed between making it and giving it its settings.
            false => Held::Nothing,
        })
    }

    /// Removes from the node what it would be given anew, or not be left. Documents are compared by write even where
    /// content will have to be: with other settings, some of that differs in all of them. Of shards without a source
    /// within reach everything stays, so that the others need not wait for these. Returns the node's tasks.
    async fn make_room(&self, view: &IndexView) -> Result<Vec<u64>, RepairError> {
        self.tell("making room for other settings");
        let copy = Copy { index: view, target: self.target };
        let mut ways = self.ways(view, self.shards, Compare::ByWrite);
        ways.iter_mut().for_each(|way| way.compare = Compare::ByWrite);
        let mut ids = strays_of(view, self.target, |all| all).await?;
        let mut all_tasks = Vec::new();
        for part in parts(view, &ways) {
            let (to_copy, to_remove) = self.difference(view, &part).await?;
            ids.extend(to_remove);
            ids.extend(to_copy.into_iter().map(|(_, id)| id));
            if !self.still_wanted(view, self.shards) {
                return Err(RepairError::NotNow("the replicas have changed meanwhile".to_owned()));
            }
            let tasks = copy.remove(&std::mem::take(&mut ids)).await?;
            self.disavow(view).await?;
            copy.wait(&tasks).await?;
            all_tasks.extend(tasks);
        }
        Ok(all_tasks)
    }
}
