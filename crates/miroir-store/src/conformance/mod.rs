//! What every backend must do, written once and run for each.
//!
//! A backend provides a [`TestBackend`] and calls [`conformance_tests!`], which makes one test of each case.

mod api_keys;
mod deletion;
mod ends;
mod indexes;
mod intents;
mod lists;
mod marks;
mod tasks;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

pub(crate) use self::api_keys::*;
pub(crate) use self::deletion::*;
pub(crate) use self::ends::*;
pub(crate) use self::indexes::*;
pub(crate) use self::intents::*;
pub(crate) use self::lists::*;
pub(crate) use self::marks::*;
pub(crate) use self::tasks::*;
use crate::{NewTask, Store, StoreError, TaskOutcome, TaskStatus, WriteMarks};

/// One database of its own, empty at first.
#[async_trait]
pub(crate) trait TestBackend: Send + Sync {
    /// Opens it; again after the store given before was dropped.
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError>;
}

/// Makes a test of every case; the argument is an expression giving a fresh [`TestBackend`].
macro_rules! conformance_tests {
    ($backend:expr => $($case:ident),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $case() { crate::conformance::$case(&$backend).await; })+
    };
    ($backend:expr) => {
        crate::conformance::conformance_tests!($backend =>
            indexes_survive_reopening,
            an_index_is_replaced_and_forgotten,
            a_position_moves_forward_only,
            index_changes_are_all_or_none,
            names_are_exchanged_with_all_that_goes_by_them,
            only_replicas_that_are_not_active_are_kept,
            values_are_kept_by_name,
            api_keys_are_kept_in_their_order,
            an_intent_comes_back_whole,
            a_payload_keeps_its_order,
            an_intent_gives_way_to_what_was_found_out,
            a_payload_that_cannot_be_read_leaves_nothing,
            acknowledging_clears_the_intent_with_its_changes,
            a_bad_acknowledgement_changes_nothing,
            abandoning_ends_the_task,
            a_kept_intent_can_be_sent_again_until_its_task_has_ended,
            a_finished_task_has_no_intent,
            a_key_is_used_once,
            one_of_many_with_one_key_is_recorded,
            a_key_expires,
            keys_that_have_expired_are_dropped,
            what_is_taken_back_has_never_been,
            a_session_waits_for_its_unfinished_tasks,
            uids_count_from_zero_and_never_return,
            concurrent_writes_all_get_their_own_uid,
            one_failing_write_leaves_the_others_alone,
            a_task_goes_through_its_life,
            a_task_may_be_born_finished,
            only_finished_tasks_are_deleted,
            every_filter_deletes_what_it_lists,
            that_an_index_was_deleted_outlives_the_task,
            a_key_outlives_its_deleted_task,
            tasks_are_filtered,
            filters_combine,
            batches_are_tasks_and_what_they_canceled,
            tasks_are_paged_both_ways,
            times_are_compared_as_times,
            ends_are_in_the_order_in_which_they_are_recorded,
        );
    };
}
pub(crate) use conformance_tests;

pub(crate) const NOW: &str = "2026-01-02T03:04:05.678901Z";

pub(crate) fn new_task(index_uid: &str) -> NewTask {
    NewTask {
        index_uid: Some(index_uid.to_owned()),
        kind: "documentAdditionOrUpdate".to_owned(),
        details: json!({"receivedDocuments": 3, "indexedDocuments": null}),
        enqueued_at: NOW.to_owned(),
        outcome: None,
        marks: WriteMarks::default(),
    }
}

pub(crate) fn outcome(status: TaskStatus) -> TaskOutcome {
    TaskOutcome {
        status,
        error: None,
        details: None,
        canceled_by: None,
        started_at: None,
        finished_at: "2026-01-02T03:04:06Z".to_owned(),
    }
}
