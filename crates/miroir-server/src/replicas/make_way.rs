//! Making way on a node for what others hold and it refuses.
//!
//! A Meilisearch lets places become sortable or filterable whatever its documents hold. From then on it refuses documents
//! whose `_geo` is no place: it takes none, and neither replaces nor deletes those that it has. The node may hold such
//! documents, which were removed elsewhere in time; or others hold them, from before. And what it holds may be against
//! settings that it missed: vectors of another length.
//!
//! So it has nothing to filter or sort by while all that differs is removed and copied anew. What it has in common with
//! others stays, so that a repair that is cut off goes on where it was.

use http::Method;
use miroir_core::replica::ReplicaState;
use miroir_core::settings::{no_lists_of_the_users, repair_node_form, without_lists};
use miroir_node::Call;
use serde_json::Value;

use super::copy::Copy;
use super::ensure::{CALL_LIMIT, RepairError, TASK_LIMIT, hold};
use super::holdings::Compare;
use super::node_tasks::{enqueue, wait_for};
use super::repair::{Repair, parts};
use super::settings::{read_settings, replicas_of};
use super::verify::{is_same, strays_of};
use crate::index::IndexView;
use crate::read::Reading;
use crate::write::encode;

/// Every difference, however small.
const ALL: usize = 1;

impl Repair<'_> {
    /// Has the node, which refused something, take what others hold, and then the agreed settings. These are all its
    /// replicas of the index. Returns how many documents were copied.
    pub(super) async fn make_way(
        &self,
        begun: &IndexView,
        refusal: RepairError,
    ) -> Result<usize, RepairError> {
        let is_of_a_place = refusal.is_refusal_of_a_place();
        self.put_all_aside(begun, refusal).await?;
        self.give(begun, |view, _| no_lists_of_the_users(self.cluster.needs_of_one_behind(view))).await?;
        let compare = self.comparison(begun).await?;
        // Places stand in nobody's way any more. What else is old may be what the settings are against.
        self.remove_surplus(begun, compare, !is_of_a_place).await?;
        let form = |view: &IndexView, settings: &Value, found: &Value| {
            let needs = self.cluster.needs_of_one_behind(view);
            repair_node_form(settings, &view.record.overlay, needs, found)
        };
        self.give(begun, |view, found| form(view, &without_lists(&view.record.settings), found)).await?;
        let (copied, _) = self.copy_in_rounds(&*self.now(begun)?, compare, ALL).await?;
        self.give(begun, |view, found| form(view, &view.record.settings, found)).await?;
        Ok(copied)
    }

    /// Puts the replicas aside that are still read, because a search could neither filter nor sort on the node, and waits
    /// for searches that ask it by an older picture.
    async fn put_all_aside(&self, begun: &IndexView, refusal: RepairError) -> Result<(), RepairError> {
        let name = self.target.id().as_str();
        let reason = "the node refuses what others hold";
        // While no write is on its way: one that only this node took would be lost with it.
        hold(self.cluster, self.index, async {
            let Some(now) = self.index.view().filter(|now| is_same(now, begun)) else { return Err(refusal) };
            if now.is_read_on(name) {
                if !refusal.is_refusal_of_a_place() || !self.is_complete_elsewhere(&now) {
                    return Err(refusal);
                }
                let to_fill = replicas_of(&now, name, ReplicaState::Stale, reason);
                self.cluster.put_aside(self.index, to_fill).await?;
            }
            tracing::info!(index = %self.index.uid, node = name, error = %refusal, "making way for what others hold");
            Ok(())
        })
        .await?;
        self.tell("waiting for earlier searches");
        tokio::time::sleep(Reading::longest(self.cluster.config.node_timeout)).await;
        Ok(())
    }

    /// Gives the node other settings than it is found to have, which are waited for while writes go on.
    async fn give(
        &self,
        begun: &IndexView,
        settings: impl FnOnce(&IndexView, &Value) -> Value,
    ) -> Result<(), RepairError> {
        self.wait_until_idle(begun).await?;
        self.tell("making way for what others hold");
        let path = format!("/indexes/{}/settings", encode(&begun.record.node_uid));
        let task = hold(self.cluster, self.index, async {
            let found = read_settings(self.target, &begun.record.node_uid).await?;
            let settings = settings(&*self.now(begun)?, &found);
            let call = Call::new(Method::PATCH, path, CALL_LIMIT).json(settings.to_string());
            Ok(enqueue(self.target, &call).await?)
        })
        .await?;
        Ok(wait_for(self.target, task, TASK_LIMIT).await?)
    }

    /// Removes what the sources do not have, and what they have newer, if that is wanted too.
    async fn remove_surplus(
        &self,
        begun: &IndexView,
        compare: Compare,
        and_old: bool,
    ) -> Result<(), RepairError> {
        let view = self.now(begun)?;
        self.remove(begun, &strays_of(&view, self.target, |all| all).await?).await?;
        for part in parts(&view, &self.ways(&view, self.shards, compare)) {
            let (to_copy, mut to_remove) = self.difference(&view, &part).await?;
            to_remove.extend(to_copy.into_iter().filter(|_| and_old).map(|(_, id)| id));
            self.remove(begun, &to_remove).await?;
        }
        Ok(())
    }

    async fn remove(&self, begun: &IndexView, ids: &[String]) -> Result<(), RepairError> {
        let view = self.now(begun)?;
        let copy = Copy { index: &view, target: self.target };
        let removing = copy.remove(ids).await;
        self.disavow(begun).await?;
        Ok(copy.wait(&removing?).await?)
    }
}
