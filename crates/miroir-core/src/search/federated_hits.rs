//! The hits of one query of a federated search, merged over nodes: as clients see them, with what decides their place
//! among the hits of other queries.

use bytes::Bytes;

use super::hits::Answer;
use super::merge::MergeError;
use super::plan::SearchPlan;
use super::scan::{Cursor, Malformed};
use super::weighted::WeightedScore;

/// The hits of one query of a federated search, best first.
#[derive(Debug)]
pub struct FederatedHits {
    pub(super) hits: Vec<FederatedHit>,
    /// The query's vector, as JSON, if a node tells it.
    pub(super) query_vector: Option<Vec<u8>>,
    /// Hits of a hybrid query that were found by its words were good enough to look no further.
    pub(super) is_keyword_only: bool,
}

impl FederatedHits {
    /// How many bytes they take as clients see them.
    pub fn bytes(&self) -> usize {
        self.hits.iter().map(|hit| hit.shown.len()).sum()
    }
}

/// One hit of them.
#[derive(Debug)]
pub(super) struct FederatedHit {
    /// As the client is to see it.
    pub(super) shown: Vec<u8>,
    /// What names the document within its index.
    pub(super) document: Option<Vec<u8>>,
    pub(super) score: WeightedScore,
}

impl SearchPlan {
    /// Merges the answers to one query of a federated search into a list of hits that compare with those of others.
    pub(super) fn merge_federated(
        &self,
        answers: &[Vec<Bytes>],
        weight: f64,
    ) -> Result<FederatedHits, MergeError> {
        let answers = self.parse(answers)?;
        let (selection, maxima) = self.select_page(&answers)?;
        let all = || answers.first.iter().chain(&answers.second);
        let view = self.view(|| all().any(Answer::came_with_vectors), true);
        let mut hits = Vec::with_capacity(selection.page.len());
        for ranked in &selection.page {
            let rescaled = maxima.rescale(&ranked.details);
            let mut shown = Vec::with_capacity(ranked.hit.raw.len());
            let scale = rescaled.as_ref().map(|rescaled| (&ranked.details, rescaled));
            view.write(&mut shown, &ranked.hit, scale)?;
            let score = WeightedScore::new(&ranked.details, rescaled.as_ref(), ranked.hit.score, weight);
            let document = ranked.hit.inserted_at.map(<[u8]>::to_vec);
            hits.push(FederatedHit { shown, document, score });
        }
        let with_vector = all().find_map(|answer| answer.member("queryVectors"));
        let query_vector = match with_vector.filter(|_| !selection.is_keyword_only) {
            Some(vectors) => first_member(vectors)?,
            None => None,
        };
        Ok(FederatedHits { hits, query_vector, is_keyword_only: selection.is_keyword_only })
    }
}

fn first_member(object: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut cursor = Cursor::new(object);
    cursor.begin_object()?;
    Ok(match cursor.next_key()? {
        Some(_) => Some(cursor.value()?.to_vec()),
        None => None,
    })
}
