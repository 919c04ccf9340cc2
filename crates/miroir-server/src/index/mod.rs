//! One index as the serving process sees it.
//!
//! `Index` is the place where writes queue; [`IndexView`] (`view`) is an immutable picture that reads work on, replaced as
//! a whole when anything changes, so that a search never sees half a change.

mod view;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use tokio::sync::{MutexGuard, watch};

pub(crate) use view::is_split;
#[cfg(test)]
pub(crate) use view::tests;
pub use view::{Exceptions, IndexView};

use crate::write::PendingWrites;

/// The place where the writes of one index uid queue.
pub struct Index {
    /// The uid.
    pub uid: String,
    /// The queue: whoever holds it may record a write. Fair, so writes keep their order of arrival.
    pub(crate) queue: tokio::sync::Mutex<PendingWrites>,
    /// Held while a write is sent that has let the queue go, so that the next one is recorded meanwhile. It is taken with
    /// the queue held: writes are sent in the order in which they were recorded, and at most one is waiting for it.
    sending: tokio::sync::Mutex<()>,
    /// Held for the moment in which the record is stored and published, so that two changes of different parts
    /// of it (a write moving the position on, a settings commit) do not undo each other.
    pub(crate) recording: tokio::sync::Mutex<()>,
    /// Which write has been sent to a part of the nodes only, and why. Nothing may overtake it, and nobody knows
    /// for how long, so nobody should wait either.
    interrupted: watch::Sender<Option<String>>,
    view: RwLock<Option<Arc<IndexView>>>,
    generation: AtomicU64,
    /// The task that made the index, if that was in this life of the process.
    first_task: AtomicU64,
    /// Tasks that ended while the queue was held; whoever holds it takes note before it relies on them.
    ended: Mutex<Vec<u64>>,
    /// Odd while tasks are being canceled.
    canceling: AtomicU64,
}

impl Index {
    pub(crate) fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            queue: tokio::sync::Mutex::default(),
            sending: tokio::sync::Mutex::default(),
            recording: tokio::sync::Mutex::default(),
            interrupted: watch::Sender::default(),
            view: RwLock::default(),
            generation: AtomicU64::new(new_generation()),
            first_task: AtomicU64::new(0),
            ended: Mutex::default(),
            canceling: AtomicU64::new(0),
        }
    }

    /// From here on, what nodes tell of tasks of this index means nothing, because some are being canceled. To be
    /// called with the queue held, or before anybody could have it.
    pub(crate) fn begin_canceling(&self) {
        self.canceling.fetch_or(1, Ordering::AcqRel);
    }

    /// What nodes tell means something again; what they told before does not.
    pub(crate) fn end_canceling(&self) {
        let end = |count: u64| (count % 2 == 1).then(|| count + 1);
        // Nothing has begun when it is even.
        let _ = self.canceling.fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
    }

    /// What has been told of tasks means something for as long as this stays the same; `None` while tasks are being
    /// canceled.
    pub(crate) fn untroubled(&self) -> Option<u64> {
        Some(self.canceling.load(Ordering::Acquire)).filter(|count| count % 2 == 0)
    }

    /// Waits for the queue and until nothing is being sent; the error says why it cannot be had.
    pub(crate) async fn turn(&self, limit: Duration) -> Result<MutexGuard<'_, PendingWrites>, String> {
        let turn = async {
            let pending = self.queue.lock().await;
            drop(self.sending.lock().await);
            pending
        };
        self.unless_interrupted(limit, turn).await
    }

    /// The same if that takes no waiting.
    pub(crate) fn try_turn(&self) -> Option<MutexGuard<'_, PendingWrites>> {
        self.queue.try_lock().ok().filter(|_| self.sending.try_lock().is_ok())
    }

    /// Waits for the queue, for a write that may be recorded while the one before it is being sent.
    pub(crate) async fn turn_to_record(
        &self,
        limit: Duration,
    ) -> Result<MutexGuard<'_, PendingWrites>, String> {
        self.unless_interrupted(limit, self.queue.lock()).await
    }

    /// Waits until what was recorded before has been sent. To be called by whoever holds the queue, who may let it go then.
    pub(crate) async fn turn_to_send(&self, limit: Duration) -> Result<MutexGuard<'_, ()>, String> {
        self.unless_interrupted(limit, self.sending.lock()).await
    }

    /// The same, however long it takes; `None` when what was recorded before has been left for the next life of the
    /// process.
    pub(crate) async fn turn_to_send_at_last(&self) -> Option<MutexGuard<'_, ()>> {
        let sending = self.sending.lock().await;
        (!self.is_interrupted()).then_some(sending)
    }

    async fn unless_interrupted<T>(
        &self,
        limit: Duration,
        turn: impl Future<Output = T>,
    ) -> Result<T, String> {
        let mut interrupted = self.interrupted.subscribe();
        tokio::select! {
            // In this order: a queue let go by a process that is about to stop must not be taken.
            biased;
            Ok(write) = interrupted.wait_for(Option::is_some) => {
                let write = write.as_deref().unwrap_or_default();
                Err(format!("index `{}` waits for an earlier write that was interrupted ({write})", self.uid))
            }
            // It may have been interrupted since this looked.
            turn = turn => match self.is_interrupted() {
                false => Ok(turn),
                true => Err(format!("index `{}` waits for an earlier write that was interrupted", self.uid)),
            },
            () = tokio::time::sleep(limit) => Err(format!("index `{}` is busy with earlier writes", self.uid)),
        }
    }

    /// Whether an interrupted write holds everything up.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.borrow().is_some()
    }

    /// Makes those who wait give up, and those who come later. To be called by whoever holds the queue or is the one that
    /// sends.
    pub(crate) fn interrupt(&self, write: String) {
        self.interrupted.send_replace(Some(write));
    }

    /// The interrupted write has come to its end.
    pub(crate) fn resume(&self) {
        self.interrupted.send_replace(None);
    }

    /// Takes note of the task that makes the index.
    pub(crate) fn begins_with(&self, task: u64) {
        self.first_task.store(task, Ordering::Release);
    }

    /// Whether a task is about this index, not about an earlier one of the same name. Of tasks from before the process
    /// started, the last deletion of an index of that name tells.
    pub(crate) fn has_begun_by(&self, task: u64) -> bool {
        self.first_task() <= task
    }

    /// The first task that is about this index, as far as that is known.
    pub(crate) fn first_task(&self) -> u64 {
        self.first_task.load(Ordering::Acquire)
    }

    /// Grows before a task is seen to have ended, and when an active replica was mended. Two reads that began in the same generation may have the same
    /// answer; no other index has the same generation, nor has this one when it is made anew.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be called when active replicas have changed, before anybody is told.
    pub(crate) fn begin_generation(&self) {
        self.generation.store(new_generation(), Ordering::Release);
    }

    /// Takes note that a task has ended: nodes can be asked what it did.
    pub(crate) fn task_ended(&self, task: u64) {
        match self.queue.try_lock() {
            Ok(mut pending) => pending.finished(&[task]),
            Err(_) => match self.ended.lock() {
                Ok(mut ended) => ended.push(task),
                Err(poisoned) => poisoned.into_inner().push(task),
            },
        }
    }

    /// Drops what is remembered of tasks that have ended.
    pub(crate) fn forget_ended(&self, pending: &mut PendingWrites) {
        let ended = match self.ended.lock() {
            Ok(mut ended) => std::mem::take(&mut *ended),
            Err(poisoned) => std::mem::take(&mut *poisoned.into_inner()),
        };
        if !ended.is_empty() {
            pending.finished(&ended);
        }
    }

    /// The current picture; `None` when there is no such index.
    pub fn view(&self) -> Option<Arc<IndexView>> {
        self.view.read().ok().and_then(|view| view.clone())
    }

    pub(crate) fn set_view(&self, view: Option<IndexView>) {
        let mut current = match self.view.write() {
            Ok(current) => current,
            Err(poisoned) => poisoned.into_inner(),
        };
        *current = view.map(Arc::new);
    }

    /// Replaces the picture by one made from it; nothing when there is no such index.
    pub(crate) fn update(&self, change: impl FnOnce(&IndexView) -> IndexView) {
        let mut current = match self.view.write() {
            Ok(current) => current,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(view) = current.as_ref() {
            *current = Some(Arc::new(change(view)));
        }
    }
}

fn new_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod queue_tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn an_interrupted_write_sends_away_who_waits_and_who_comes() {
        let index = Arc::new(Index::new("movies"));
        let held = index.turn(NEVER).await.unwrap();
        let busy = index.turn(SOON).await.err();
        assert_eq!(busy.as_deref(), Some("index `movies` is busy with earlier writes"));

        let waiter = Arc::clone(&index);
        let waiting = tokio::spawn(async move { waiter.turn(NEVER).await.err() });
        tokio::task::yield_now().await;
        index.interrupt("task 7: node `b` is down".to_owned());
        let reason =
            "index `movies` waits for an earlier write that was interrupted (task 7: node `b` is down)";
        assert_eq!(waiting.await.unwrap().as_deref(), Some(reason));
        assert_eq!(index.turn(NEVER).await.err().as_deref(), Some(reason));

        // Let go with the write undone, as by a process that stops: still nobody may overtake it.
        drop(held);
        assert_eq!(index.turn(NEVER).await.err().as_deref(), Some(reason));
        index.resume();
        assert!(index.turn(NEVER).await.is_ok());
    }

    #[tokio::test]
    async fn one_write_is_recorded_while_another_is_sent() {
        let index = Arc::new(Index::new("movies"));
        let first = index.turn_to_record(NEVER).await.unwrap();
        let sent = index.turn_to_send(NEVER).await.unwrap();
        drop(first);
        let second = index.turn_to_record(NEVER).await.unwrap();
        assert!(index.turn_to_send(SOON).await.is_err(), "the first is not sent yet");
        assert!(index.turn_to_record(SOON).await.is_err(), "a third waits for the second to be sent");
        drop(second);
        assert!(index.turn(SOON).await.is_err(), "nothing else may be done while one is sent");
        assert!(index.try_turn().is_none());
        drop(sent);
        assert!(index.try_turn().is_some());
        assert!(index.turn(NEVER).await.is_ok());
    }

    #[tokio::test]
    async fn what_follows_a_write_that_was_left_undone_is_left_too() {
        let index = Arc::new(Index::new("movies"));
        for is_done in [true, false] {
            let first = index.turn_to_record(NEVER).await.unwrap();
            let sent = index.turn_to_send(NEVER).await.unwrap();
            drop(first);
            let (next, recorded) = (Arc::clone(&index), tokio::sync::oneshot::channel());
            let waiting = tokio::spawn(async move {
                let _queue = next.turn_to_record(NEVER).await.unwrap();
                recorded.0.send(()).unwrap();
                let told = next.turn_to_send(NEVER).await.err();
                (told, next.turn_to_send_at_last().await.is_some())
            });
            recorded.1.await.unwrap();
            index.interrupt("task 7".to_owned());
            tokio::task::yield_now().await;
            if is_done {
                index.resume();
            }
            drop(sent);
            let (told, is_sent) = waiting.await.unwrap();
            assert!(told.is_some_and(|reason| reason.contains("task 7")));
            assert_eq!(is_sent, is_done);
        }
    }
}
