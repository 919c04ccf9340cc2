//! Experimental features: which of Meilisearch's are on.
//!
//! Miroir is the authority. What a client turns on is in the store, and each node is told before it is in service, so a
//! node that comes back empty, or missed a change, cannot refuse what the others take. Until the first change nothing is
//! told to anybody: nodes may have been started with features of their own. The features that Miroir does not offer are
//! never touched on nodes, where an operator may use them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use miroir_core::error::{ApiError, ErrorType};
use miroir_node::{Call, Node, NodeError};
use miroir_store::{Store, StoreError};
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::store_error;

/// Whether a feature can be turned on here, and else why not.
type Support = Result<(), &'static str>;

/// The features of Meilisearch 1.21, in the order in which it lists them.
pub(crate) const FEATURES: [(&str, Support); 10] = [
    (
        "metrics",
        Err(
            "each node would show its own part only. Read the metrics of the nodes, or `GET /_miroir/topology`",
        ),
    ),
    ("logsRoute", Err("every node has a log of its own. Change and read it at the node")),
    ("editDocumentsByFunction", Ok(())),
    ("containsFilter", Ok(())),
    ("network", Err("Miroir itself shares the documents out among the nodes. Leave that to it")),
    (
        "getTaskDocumentsRoute",
        Err(
            "the documents of a task are shared out among nodes and given up once these have them. Keep what was \
             sent",
        ),
    ),
    ("compositeEmbedders", Ok(())),
    (
        "chatCompletions",
        Err("a chat searches one node, which holds a part of the documents. Search, and chat outside"),
    ),
    ("multimodal", Ok(())),
    (
        "vectorStoreSetting",
        Err(
            "nodes would show a setting that Miroir could not compare between them. Leave the vector store as it is",
        ),
    ),
];

/// Whether a feature is one that can be turned on here.
pub(crate) fn is_offered(name: &str) -> bool {
    FEATURES.iter().any(|(other, support)| *other == name && support.is_ok())
}

/// Name under which the store keeps what was turned on or off.
const META_KEY: &str = "experimental-features";
const PATH: &str = "/experimental-features";
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Which features are on, and which nodes know.
#[derive(Default)]
pub(crate) struct Features {
    known: Mutex<Known>,
    /// Held while the store is changed and nodes are told.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// What clients decided; empty before the first change.
    decided: BTreeMap<String, bool>,
    /// Grows with each change.
    change: u64,
    /// The newest change that each node was told of.
    told: HashMap<String, u64>,
}

impl Features {
    fn known(&self) -> MutexGuard<'_, Known> {
        match self.known.lock() {
            Ok(known) => known,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Reads from the store what was decided.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreError> {
        let Some(text) = store.meta(META_KEY).await? else { return Ok(()) };
        let decided = serde_json::from_str(&text).map_err(|error| {
            StoreError::Invalid(format!("the experimental features cannot be read ({error})"))
        })?;
        self.publish(decided);
        Ok(())
    }

    fn publish(&self, decided: BTreeMap<String, bool>) {
        let mut known = self.known();
        known.decided = decided;
        known.change += 1;
    }

    /// All features, as Meilisearch shows them.
    pub fn show(&self) -> Value {
        let known = self.known();
        let is_on = |name: &str| known.decided.get(name).copied().unwrap_or(false);
        let shown = FEATURES.iter().map(|(name, _)| ((*name).to_owned(), json!(is_on(name))));
        Value::Object(shown.collect())
    }

    /// Whether a node has been told of the newest change.
    pub fn is_told(&self, node: &Node) -> bool {
        let known = self.known();
        known.told.get(node.id().as_str()).copied().unwrap_or(0) == known.change
    }

    /// Tells a node what was decided, unless a change is being told to all.
    pub async fn tell(&self, node: &Node) -> Result<(), NodeError> {
        let _changing = self.changing.lock().await;
        self.tell_now(node).await
    }

    /// Tells a node what was decided, as far as that differs from what it has.
    async fn tell_now(&self, node: &Node) -> Result<(), NodeError> {
        let (decided, change) = {
            let known = self.known();
            (known.decided.clone(), known.change)
        };
        if !decided.is_empty() {
            let held: Map<String, Value> = node.fetch(&Call::get(PATH, CALL_LIMIT)).await?;
            // A newer version may have made a feature out of an experiment, and not know its name any more.
            let differs =
                |(name, is_on): &(String, bool)| held.get(name).is_some_and(|held| *held != json!(is_on));
            let wrong: BTreeMap<String, bool> = decided.into_iter().filter(differs).collect();
            if !wrong.is_empty() {
                let call = Call::new(http::Method::PATCH, PATH, CALL_LIMIT).json(json!(wrong).to_string());
                node.fetch::<Value>(&call).await?;
            }
        }
        self.known().told.insert(node.id().to_string(), change);
        Ok(())
    }
}

impl Cluster {
    /// Turns features on or off. Once it returns, every node in service has them so: one that cannot be told goes out
    /// of service until it can.
    pub(crate) async fn change_features(&self, changes: BTreeMap<String, bool>) -> Result<Value, ApiError> {
        for (name, support) in FEATURES {
            if let (Some(true), Err(reason)) = (changes.get(name), support) {
                let message =
                    format!("The experimental feature `{name}` is not supported by Miroir: {reason}.");
                return Err(ApiError::new(501, "miroir_unsupported", ErrorType::InvalidRequest, message));
            }
        }
        let features = &self.features;
        let _changing = features.changing.lock().await;
        let mut decided = features.known().decided.clone();
        let before = decided.clone();
        decided.extend(changes.into_iter().filter(|(name, _)| is_offered(name)));
        if decided != before {
            let text = json!(decided).to_string();
            self.store.put_meta(META_KEY, &text).await.map_err(store_error)?;
            features.publish(decided);
        }
        let tell = async |node: &Arc<Node>| match features.tell_now(node).await {
            Err(error) if node.health().is_up() => {
                node.disown(&format!("it does not know which experimental features are on: {error}"));
            }
            _ => {}
        };
        futures_util::future::join_all(self.fleet.iter().map(tell)).await;
        Ok(features.show())
    }
}
