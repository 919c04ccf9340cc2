//! Identical searches at the same time: one asks the nodes, the others take its answer.
//!
//! Only searches of the same generation of an index share (see `Index::generation`): one that begins after a task has
//! succeeded has to see what the task did, and another that is on its way may have asked some nodes before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use miroir_core::error::ApiError;
use tokio::sync::watch;

use super::ReadAnswer;

/// Different searches at the same time that others can share; more are answered without looking for company.
const MOST_SHARED: usize = 1_024;

type Outcome = Result<ReadAnswer, ApiError>;

/// What identical searches have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SharedSearch {
    /// The generation of the index, which tells the index as well.
    pub generation: u64,
    /// The body, of whatever method.
    pub body: Bytes,
}

/// The searches that are being answered.
#[derive(Default)]
pub struct SharedSearches {
    asked: Mutex<HashMap<SharedSearch, watch::Receiver<Option<Outcome>>>>,
    answered: AtomicU64,
}

enum Role<'a> {
    Asks(Asking<'a>),
    Waits(watch::Receiver<Option<Outcome>>),
    Alone,
}

impl SharedSearches {
    /// The answer of `ask`, or of an identical search that began earlier. Waits for the other one for as long as
    /// `patience`, and asks as well when that one is given up by its client.
    pub async fn answer(
        &self,
        search: SharedSearch,
        patience: Duration,
        ask: impl Future<Output = Outcome>,
    ) -> Outcome {
        match self.role(search) {
            Role::Asks(asking) => {
                let outcome = ask.await;
                asking.answer.send_replace(Some(outcome.clone()));
                outcome
            }
            Role::Waits(mut other) => {
                let waited = tokio::time::timeout(patience, other.wait_for(Option::is_some)).await;
                let outcome = waited.ok().and_then(Result::ok).and_then(|outcome| outcome.clone());
                match outcome {
                    Some(outcome) => {
                        self.answered.fetch_add(1, Ordering::Relaxed);
                        outcome
                    }
                    None => ask.await,
                }
            }
            Role::Alone => ask.await,
        }
    }

    /// How many searches were answered by another one's answer.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn role(&self, search: SharedSearch) -> Role<'_> {
        let mut asked = self.asked();
        if let Some(other) = asked.get(&search) {
            return Role::Waits(other.clone());
        }
        if asked.len() >= MOST_SHARED {
            return Role::Alone;
        }
        let (answer, waiting) = watch::channel(None);
        asked.insert(search.clone(), waiting);
        Role::Asks(Asking { all: self, search, answer })
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<SharedSearch, watch::Receiver<Option<Outcome>>>> {
        match self.asked.lock() {
            Ok(asked) => asked,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// A search that others may be waiting for. When it is dropped without an answer they notice.
struct Asking<'a> {
    all: &'a SharedSearches,
    search: SharedSearch,
    answer: watch::Sender<Option<Outcome>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.all.asked().remove(&self.search);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::{pending, ready};

    const PATIENCE: Duration = Duration::from_secs(3_600);

    fn search(generation: u64) -> SharedSearch {
        SharedSearch { generation, body: Bytes::from_static(b"{}") }
    }

    fn answer(body: &'static str) -> Outcome {
        Ok(ReadAnswer { body: body.into(), missing: Vec::new(), settings_inconsistent: false })
    }

    fn body(outcome: Outcome) -> Bytes {
        outcome.unwrap().body
    }

    #[tokio::test]
    async fn the_first_asks_and_the_others_take_its_answer() {
        let shared = SharedSearches::default();
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut first = Box::pin(shared.answer(search(1), PATIENCE, async { told.await.unwrap() }));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(shared.answer(search(1), PATIENCE, pending()));
        assert!(second.as_mut().now_or_never().is_none());
        let later = shared.answer(search(2), PATIENCE, ready(answer("later"))).await;
        assert_eq!(body(later), "later", "of another generation");
        tell.send(answer("first")).unwrap();
        assert_eq!(body(first.await), "first");
        assert_eq!(body(second.await), "first");
        assert_eq!(shared.answered(), 1);
        assert_eq!(body(shared.answer(search(1), PATIENCE, ready(answer("new"))).await), "new");
        assert!(shared.asked().is_empty());
    }

    #[tokio::test]
    async fn those_whose_leader_is_gone_ask_themselves() {
        let shared = SharedSearches::default();
        let mut first = Box::pin(shared.answer(search(1), PATIENCE, pending()));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(shared.answer(search(1), PATIENCE, ready(answer("second"))));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(body(second.await), "second");
        let mut stuck = Box::pin(shared.answer(search(1), PATIENCE, pending()));
        assert!(stuck.as_mut().now_or_never().is_none());
        let impatient = shared.answer(search(1), Duration::ZERO, ready(answer("impatient"))).await;
        assert_eq!(body(impatient), "impatient");
    }
}
