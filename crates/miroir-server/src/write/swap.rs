//! Exchanging the names of indexes.
//!
//! An index has a name on the nodes that it keeps for life, so other names are a matter of the store alone: one
//! transaction for any number of swaps, of which nodes hear nothing, wherever the documents are.

use std::collections::BTreeSet;

use miroir_core::error::{ApiError, ErrorType};
use miroir_store::{IndexSwap, StoreError};

use crate::cluster::{Cluster, index_not_found};
use crate::write::later::{Turns, succeeded};

impl Cluster {
    /// What is wrong with swaps, in Meilisearch's words.
    pub(super) fn judge_swaps(&self, swaps: &[IndexSwap]) -> Result<(), ApiError> {
        let mut absent = BTreeSet::new();
        let mut in_the_way = BTreeSet::new();
        for IndexSwap { indexes: (left, right), rename } in swaps {
            if !self.has_index(left) {
                absent.insert(left.as_str());
            }
            match (self.has_index(right), rename) {
                (true, true) => drop(in_the_way.insert((left.as_str(), right.as_str()))),
                (false, false) => drop(absent.insert(right.as_str())),
                _ => {}
            }
        }
        let absent: Vec<&str> = absent.into_iter().collect();
        match absent.as_slice() {
            [] => {}
            [one] => return Err(index_not_found(one)),
            several => {
                let message = format!("Indexes {} not found.", quoted(several));
                return Err(ApiError::new(404, "index_not_found", ErrorType::InvalidRequest, message));
            }
        }
        let in_the_way: Vec<(&str, &str)> = in_the_way.into_iter().collect();
        match in_the_way.as_slice() {
            [] => Ok(()),
            [(left, right)] => Err(index_exists(format!(
                "Cannot rename `{left}` to `{right}` as the index already exists. Hint: You can remove `{right}` first \
                 and then do your remove."
            ))),
            several => {
                let names: Vec<&str> = several.iter().map(|(_, right)| *right).collect();
                Err(index_exists(format!(
                    "The following indexes are being renamed but cannot because their new name conflicts with an already \
                     existing index: {}. Renaming doesn't overwrite the other index name.",
                    quoted(&names)
                )))
            }
        }
    }

    /// The swap that a new name for one index amounts to: none when it is the one it has.
    pub(super) fn judge_rename(&self, from: &str, to: &str) -> Result<Vec<IndexSwap>, ApiError> {
        if !self.has_index(from) {
            return Err(index_not_found(from));
        }
        if from == to {
            return Ok(Vec::new());
        }
        if self.has_index(to) {
            return Err(index_exists(format!("Index `{to}` already exists.")));
        }
        Ok(vec![IndexSwap { indexes: (from.to_owned(), to.to_owned()), rename: true }])
    }

    fn has_index(&self, uid: &str) -> bool {
        self.readable_index(uid).is_ok()
    }

    /// Carries out swaps that are right, with the queues of all their indexes held and nothing on its way to them.
    pub(super) async fn swap(
        &self,
        turns: &mut Turns<'_>,
        task: u64,
        swaps: Vec<IndexSwap>,
    ) -> Result<(), StoreError> {
        let _for_long = self.names_for_long.write().await;
        let _names = self.names.write().await;
        let mut recordings = Vec::new();
        for index in turns.indexes() {
            recordings.push(index.recording.lock().await);
        }
        // For all to see, and then in the store: who sees that the task has succeeded must see what it did.
        self.exchange_views(&swaps);
        turns.indexes().iter().for_each(|index| index.begin_generation());
        if let Err(error) = self.store.swap_indexes(task, succeeded(None), swaps.clone()).await {
            self.exchange_views(&undone(swaps));
            turns.indexes().iter().for_each(|index| index.begin_generation());
            return Err(error);
        }
        drop(recordings);
        turns.forget_documents();
        Ok(())
    }
}

/// What takes swaps back.
fn undone(swaps: Vec<IndexSwap>) -> Vec<IndexSwap> {
    let back = |swap: IndexSwap| IndexSwap { indexes: (swap.indexes.1, swap.indexes.0), ..swap };
    swaps.into_iter().rev().map(back).collect()
}

fn index_exists(message: String) -> ApiError {
    ApiError::new(409, "index_already_exists", ErrorType::InvalidRequest, message)
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
