//! Exporting to another server: indexes with their settings, and their documents in the order of insertion, without
//! what Miroir adds. The other server is called as any client would; what it does with its tasks is its own affair.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use miroir_core::error::{ApiError, ErrorBody};
use miroir_core::export::{Export, IndexExport};
use miroir_core::settings::with_secrets;
use miroir_node::{Call, CallBody, Fleet, Node, NodeAnswer, NodeError};
use serde_json::{Value, json};

use super::NotMade;
use super::documents::Stretches;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::encode;

/// Name of the other server, in messages.
const TARGET: &str = "the other server";
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How often a call is tried, with pauses between that double.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a server says to somebody without a key, and with a wrong one. Calls to nodes do not tell.
const NO_KEY: &str = "missing_authorization_header (auth): The Authorization header is missing. It must use the bearer \
                      authorization method. <https://docs.meilisearch.com/errors#missing_authorization_header>";
const WRONG_KEY: &str = "invalid_api_key (auth): The provided API key is invalid. \
                         <https://docs.meilisearch.com/errors#invalid_api_key>";

/// The other server.
struct Target {
    node: Arc<Node>,
    has_key: bool,
}

impl Cluster {
    /// Whether there can be a server at an address, as far as Miroir can call it.
    pub(crate) fn check_export(&self, export: &Export) -> Result<(), ApiError> {
        Target::new(export).map(drop)
    }

    /// Exports indexes. Returns how many documents of each.
    pub(crate) async fn export(&self, export: &Export) -> Result<BTreeMap<String, u64>, NotMade> {
        let target = Target::new(export)?;
        let mut documents = BTreeMap::new();
        // Of two indexes whose names are exchanged in the middle, one would be exported twice.
        let _names = self.names_for_long.read().await;
        for view in self.readable_indexes() {
            let Some(how) = export.of_index(&view.record.uid) else { continue };
            target.take_index(&view, how).await?;
            // Gathered in memory, whatever the other server may take.
            let most_bytes = export.payload_bytes().min(self.config.max_body_bytes as u64);
            let count = self.export_documents(&target, view.record.uid.as_str(), how, most_bytes).await?;
            documents.insert(view.record.uid.clone(), count);
        }
        Ok(documents)
    }

    async fn export_documents(
        &self,
        target: &Target,
        uid: &str,
        how: &IndexExport,
        most_bytes: u64,
    ) -> Result<u64, NotMade> {
        let index = self.handle(uid);
        let mut stretches = Stretches::selected(how.filter.clone());
        let (mut documents, mut body) = (0, Vec::new());
        // Which replicas can be read changes all the time, and an index may be deleted in the middle.
        while let Some(view) = index.view() {
            let read = stretches.read(self, &view, view.record.next_position).await;
            let Some(stretch) = read.map_err(|not_made| in_index(uid, not_made))? else { break };
            documents += stretch.documents;
            for line in stretch.lines.split_inclusive(|byte| *byte == b'\n') {
                if !body.is_empty() && (body.len() + line.len()) as u64 > most_bytes {
                    target.take_documents(uid, std::mem::take(&mut body)).await?;
                }
                body.extend_from_slice(line);
            }
        }
        if !body.is_empty() {
            target.take_documents(uid, body).await?;
        }
        Ok(documents)
    }
}

impl Target {
    fn new(export: &Export) -> Result<Self, ApiError> {
        let nodes = [(TARGET, 0, export.url.as_str())];
        let fleet = Fleet::new(nodes, export.api_key.as_deref()).ok();
        let node = fleet.and_then(|fleet| fleet.get(TARGET).cloned());
        node.map(|node| Self { node, has_key: export.api_key.is_some() }).ok_or_else(|| {
            let message = format!(
                "Miroir exports to addresses of the form `http://host:port`, which `{}` is not.",
                export.url
            );
            ApiError::bad_request("invalid_export_url", message)
        })
    }

    /// Makes an index there, or gives one that is there the primary key and the settings, if it is to have them.
    async fn take_index(&self, view: &IndexView, how: &IndexExport) -> Result<(), NotMade> {
        let record = &view.record;
        let path = format!("/indexes/{}", encode(&record.uid));
        let found = self.ask(&Call::get(path.clone(), CALL_LIMIT)).await?;
        let is_there = found.status.is_success();
        if !is_there && code_of(&found) != "index_not_found" {
            return Err(refused(&found).into());
        }
        if !is_there {
            let index = json!({ "uid": record.uid, "primaryKey": record.primary_key }).to_string();
            self.tell(Call::post("/indexes", index, CALL_LIMIT)).await?;
        } else if how.override_settings {
            let key = json!({ "primaryKey": record.primary_key }).to_string();
            self.tell(Call::new(Method::PATCH, path.clone(), CALL_LIMIT).json(key)).await?;
        }
        if !is_there || how.override_settings {
            let settings = with_secrets(&record.settings, &record.overlay).to_string();
            self.tell(Call::new(Method::PATCH, format!("{path}/settings"), CALL_LIMIT).json(settings))
                .await?;
        }
        Ok(())
    }

    async fn take_documents(&self, uid: &str, lines: Vec<u8>) -> Result<(), ApiError> {
        let lines = bytes::Bytes::from(lines);
        let body = CallBody::Ndjson(Arc::new(move || Box::new(std::iter::once(lines.clone()))));
        let path = format!("/indexes/{}/documents", encode(uid));
        self.tell(Call { method: Method::POST, path, body, limit: CALL_LIMIT }).await
    }

    async fn tell(&self, call: Call) -> Result<(), ApiError> {
        let answer = self.ask(&call).await?;
        if answer.status.is_success() { Ok(()) } else { Err(refused(&answer)) }
    }

    async fn ask(&self, call: &Call) -> Result<NodeAnswer, ApiError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let is_last = attempt == ATTEMPTS;
            match self.node.send_anyway(call).await {
                Ok(answer) if is_last || !is_passing(answer.status) => return Ok(answer),
                Err(NodeError::Refused { .. }) => {
                    return Err(failed(if self.has_key { WRONG_KEY } else { NO_KEY }));
                }
                Err(error) if is_last => return Err(failed(&format!("{error}."))),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(failed("it was not called."))
    }
}

/// Why an index cannot be read, as Meilisearch tells it of an export.
fn in_index(uid: &str, not_made: NotMade) -> NotMade {
    match not_made {
        NotMade::Ever(error) if error.message.starts_with("Index `") => {
            NotMade::Ever(ApiError::internal(error.message))
        }
        NotMade::Ever(error) => {
            NotMade::Ever(ApiError::internal(format!("Index `{uid}`: {}", error.message)))
        }
        later => later,
    }
}

/// Whether another try may have another outcome.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429)
}

fn code_of(answer: &NodeAnswer) -> String {
    serde_json::from_slice::<Value>(&answer.body)
        .ok()
        .and_then(|body| Some(body["code"].as_str()?.to_owned()))
        .unwrap_or_default()
}

/// What the other server says, as Meilisearch tells it.
fn refused(answer: &NodeAnswer) -> ApiError {
    match serde_json::from_slice::<ErrorBody>(&answer.body) {
        Ok(ErrorBody { message, code, kind, link }) => {
            let kind = serde_json::to_value(kind).unwrap_or_default();
            failed(&format!("{code} ({}): {message} <{link}>", kind.as_str().unwrap_or_default()))
        }
        Err(_) => failed(&format!("it answers with status {}.", answer.status)),
    }
}

fn failed(reason: &str) -> ApiError {
    ApiError::internal(format!("Failed to export documents to remote server {reason}"))
}
