//! Documents: one by its id, or a page of them in the order one Meilisearch would give.
//!
//! A page near the beginning is merged from the nodes' first documents. A page far into the index would need
//! everything before it; there the place is found first. In the order of insertion, by counting documents before
//! a position and halving; in another order, by fetching what tells the order and then only the page.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_core::cover::CoverPart;
use miroir_core::documents::browse::{BrowsePlan, NoPlan, NodeAnswer, OffsetSearch, strip_document};
use miroir_core::error::ApiError;
use miroir_core::filter::reserved_name_in_filter;
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::{Call, Node};
use serde::Deserialize;
use serde_json::Value;

use super::gather::{Ask, Gathered, Reading};
use super::missing::stand_in;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::{ReadAnswer, reserved_field, shard_unavailable};
use crate::write::encode;

/// Pages of documents can be large.
const PAGE_LIMIT: Duration = Duration::from_secs(60);

/// A listing as the client asked for it.
pub enum BrowseInput {
    /// `POST /documents/fetch`, with its body.
    Body(Bytes),
    /// `GET /documents`, with its query string and the parameters in it.
    Query(String, Vec<(String, String)>),
}

impl BrowseInput {
    /// The same, asked of a node.
    fn call(&self, uid: &str, limit: Duration) -> Call {
        let path = format!("/indexes/{}/documents", encode(uid));
        match self {
            Self::Body(body) => Call::post(format!("{path}/fetch"), body.clone(), limit),
            Self::Query(query, _) => Call::get(format!("{path}?{query}"), limit),
        }
    }
}

#[derive(Deserialize)]
struct Counted {
    total: u64,
}

#[derive(Deserialize)]
struct FilterOnly {
    filter: Option<Value>,
}

struct Browsing<'a> {
    cluster: &'a Cluster,
    index: &'a IndexView,
    plan: BrowsePlan,
    path: String,
}

/// What the nodes of a cover answered, and the shards nobody answered for.
struct Pages {
    pages: Vec<Bytes>,
    /// For each page, the node's place in the fleet's order.
    nodes: Vec<usize>,
    missing: Vec<ShardId>,
}

/// Nodes that lack a field to sort by: what they were asked for, and what they said.
type Lacking = Vec<(CoverPart, miroir_node::NodeAnswer)>;

impl Cluster {
    /// One document.
    pub async fn document(&self, uid: &str, id: &str, query: Option<&str>) -> Result<ReadAnswer, ApiError> {
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let call = |uid: &str| {
            let path = format!("/indexes/{}/documents/{}{query}", encode(uid), encode(id));
            Call::get(path, self.config.node_timeout)
        };
        let index = match self.readable_index(uid) {
            Ok(index) => index,
            Err(missing) => return Err(self.error_without_index(missing, &call(stand_in(uid))).await),
        };
        let call = call(&index.record.node_uid);
        let shard = shard_of(id.trim(), index.record.shards);
        let holders = index.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
        let readable = holders.iter().filter(|node| index.replica_state(shard, node).is_readable());
        for node in readable.filter_map(|node| self.fleet.get(node)).filter(|node| node.health().is_up()) {
            match node.send_trusted(&call).await {
                Ok(answer) if answer.status.is_success() => {
                    let body = strip_document(&answer.body)?.into();
                    return Ok(ReadAnswer { body, missing: Vec::new(), settings_inconsistent: false });
                }
                Ok(answer) => {
                    let error = self.node_refusal(Some(&index), answer.status, &answer.body);
                    if error.code != "index_not_found" {
                        return Err(error);
                    }
                }
                Err(error) => tracing::warn!(index = uid, %error, "asking another replica"),
            }
        }
        Err(shard_unavailable(&[shard]))
    }

    /// A page of documents.
    pub async fn browse(&self, uid: &str, input: BrowseInput) -> Result<ReadAnswer, ApiError> {
        let index = match self.readable_index(uid) {
            Ok(index) => index,
            Err(missing) => {
                let call = input.call(stand_in(uid), self.config.node_timeout);
                return Err(self.error_without_index(missing, &call).await);
            }
        };
        let path = format!("/indexes/{}/documents/fetch", encode(&index.record.node_uid));
        let planned = match &input {
            BrowseInput::Body(body) => BrowsePlan::from_fetch(body),
            BrowseInput::Query(_, pairs) => {
                BrowsePlan::from_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            }
        };
        let plan = match planned {
            Ok(plan) => plan.of_at_most(index.record.next_position),
            Err(NoPlan::Refused(error)) => return Err(error),
            Err(NoPlan::AskANode) => {
                let call = input.call(&index.record.node_uid, self.config.node_timeout);
                return Err(self.refusal_of_one_node(Some(&index), &call).await);
            }
        };
        if let Some(name) = filter_of(&input).and_then(|filter| reserved_name_in_filter(&filter)) {
            return Err(reserved_field(&name));
        }
        let browsing = Browsing { cluster: self, index: &index, plan, path };
        let (body, missing) = browsing.page().await?;
        Ok(ReadAnswer { body: body.into(), missing, settings_inconsistent: false })
    }
}

fn filter_of(input: &BrowseInput) -> Option<Value> {
    match input {
        BrowseInput::Body(body) => serde_json::from_slice::<FilterOnly>(body).ok()?.filter,
        BrowseInput::Query(_, pairs) => {
            let (_, text) = pairs.iter().rfind(|(name, _)| name == "filter")?;
            Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())))
        }
    }
}

impl Browsing<'_> {
    async fn page(&self) -> Result<(Vec<u8>, Vec<ShardId>), ApiError> {
        if !self.plan.is_deep() {
            let first = self.ask(|shards| self.plan.body(shards)).await?;
            return Ok((self.plan.merge(&first.pages)?, first.missing));
        }
        if self.plan.is_in_insertion_order() {
            self.page_by_counting().await
        } else {
            self.page_by_order().await
        }
    }

    /// Finds the position where the page begins, then reads from there.
    async fn page_by_counting(&self) -> Result<(Vec<u8>, Vec<ShardId>), ApiError> {
        let (total, mut missing) = self.count(|shards| self.plan.counting_body(shards)).await?;
        let first_free = self.index.record.next_position;
        let Some(mut search) = OffsetSearch::new(self.plan.offset() as u64, total, first_free) else {
            return Ok((self.plan.merge_from_position(&[], total)?, missing));
        };
        while let Some(position) = search.probe() {
            let (before, _) = self.count(|shards| self.plan.counting_before_body(shards, position)).await?;
            search.learn(position, before);
        }
        let page = self.ask(|shards| self.plan.from_position_body(shards, search.position())).await?;
        missing.extend(page.missing);
        Ok((self.plan.merge_from_position(&page.pages, total)?, missing))
    }

    /// Fetches what tells the order, then only the documents of the page, from the nodes that showed them.
    async fn page_by_order(&self) -> Result<(Vec<u8>, Vec<ShardId>), ApiError> {
        let slim = self.ask(|shards| self.plan.slim_body(shards)).await?;
        let selection = self.plan.select(&slim.pages)?;
        let fleet: Vec<&Arc<Node>> = self.cluster.fleet.iter().collect();
        let asks = slim.nodes.iter().enumerate().filter_map(|(page, node)| {
            let body = self.plan.page_body(&selection, page)?;
            let node = fleet.get(*node)?;
            let call = Call::post(self.path.clone(), body, PAGE_LIMIT);
            Some(async move { node.send_trusted(&call).await })
        });
        let mut parts = Vec::new();
        for answer in futures_util::future::join_all(asks).await {
            let answer = answer.map_err(|error| {
                tracing::warn!(%error, "a node went away between two rounds");
                shard_unavailable(&[])
            })?;
            if !answer.status.is_success() {
                return Err(self.cluster.node_refusal(Some(self.index), answer.status, &answer.body));
            }
            parts.push(answer.body);
        }
        Ok((self.plan.merge_selected(&selection, &parts)?, slim.missing))
    }

    async fn count(
        &self,
        body: impl Fn(Option<&[ShardId]>) -> Vec<u8> + Sync,
    ) -> Result<(u64, Vec<ShardId>), ApiError> {
        let counted = self.ask(body).await?;
        let totals = counted.pages.iter().map(|page| serde_json::from_slice::<Counted>(page));
        let total = totals
            .map(|counted| counted.map(|counted| counted.total))
            .sum::<Result<u64, _>>()
            .map_err(|error| ApiError::internal(format!("A node's answer cannot be understood: {error}.")))?;
        Ok((total, counted.missing))
    }

    /// Asks a cover, and asks those again that have no document with a field to sort by, only for their number.
    async fn ask(&self, body: impl Fn(Option<&[ShardId]>) -> Vec<u8> + Sync) -> Result<Pages, ApiError> {
        let post = |body: Vec<u8>| Call::post(self.path.clone(), body, PAGE_LIMIT);
        let calls = |ask: Ask<'_>| vec![post(body(ask.shards))];
        let narrowing = self.plan.narrowing(self.index.ids());
        let mut reading = Reading::with_limit(PAGE_LIMIT).narrowed(narrowing, false);
        let (mut pages, lacking) = loop {
            let gathered = self.cluster.gather(self.index, &reading, calls).await?;
            let (pages, lacking) = self.classify(gathered)?;
            match lacking.first() {
                Some((_, answer)) if pages.pages.is_empty() => {
                    // A document that was not asked for may have the field.
                    if reading.wanted.is_none() {
                        return Err(self.cluster.node_refusal(Some(self.index), answer.status, &answer.body));
                    }
                    reading = reading.of_everything();
                }
                _ => break (pages, lacking),
            }
        };
        let fleet: Vec<&Arc<Node>> = self.cluster.fleet.iter().collect();
        for (part, _) in lacking {
            let shards = (!part.whole).then_some(part.shards.as_slice());
            let Some(node) = fleet.get(part.node) else { continue };
            match node.send_trusted(&post(self.plan.counting_body(shards))).await {
                Ok(answer) if answer.status.is_success() => {
                    pages.pages.push(answer.body);
                    pages.nodes.push(part.node);
                }
                Ok(answer) => {
                    return Err(self.cluster.node_refusal(Some(self.index), answer.status, &answer.body));
                }
                Err(error) => {
                    tracing::warn!(%error, "a node went away between two rounds");
                    pages.missing.extend(part.shards.iter().copied());
                }
            }
        }
        Ok(pages)
    }

    /// The pages, and what was asked of the nodes that lack a field to sort by.
    fn classify(&self, gathered: Gathered) -> Result<(Pages, Lacking), ApiError> {
        let mut pages = Pages { pages: Vec::new(), nodes: Vec::new(), missing: gathered.missing };
        let mut lacking = Vec::new();
        for (part, answers) in gathered.parts.into_iter().zip(gathered.answers) {
            for answer in answers {
                match self.plan.classify(answer.status.as_u16(), answer.body.clone()) {
                    NodeAnswer::Page(page) => {
                        pages.pages.push(page);
                        pages.nodes.push(part.node);
                    }
                    NodeAnswer::Empty => {}
                    NodeAnswer::LacksSortedField(_) => lacking.push((part.clone(), answer)),
                    NodeAnswer::Refused(_) => {
                        return Err(self.cluster.node_refusal(Some(self.index), answer.status, &answer.body));
                    }
                }
            }
        }
        Ok((pages, lacking))
    }
}
