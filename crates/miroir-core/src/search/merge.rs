//! Making one answer of the answers of several nodes, or the client's answer of one node's.

use bytes::Bytes;

use super::distinct::{Seen, values_of};
use super::facet_values::{RawFacets, count_documents};
use super::facets::{self, FacetConflict};
use super::hits::{Answer, HitView, came_with_vectors};
use super::hybrid::{HybridHit, are_good_enough, common_score, interleave};
use super::plan::{Paging, SearchKind, SearchPlan};
use super::rank::{BestFirst, RankedHit, place_pinned};
use super::scan::{Cursor, Malformed, ObjectWriter, unsigned, write_json};
use super::score::Maxima;
use super::spelling::SpellingChoices;

/// Why answers could not be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// A node did not answer as Meilisearch does.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Nodes were asked for too few hits to tell which are the best: ask again, with [`Depth::Whole`].
    ///
    /// [`Depth::Whole`]: super::Depth::Whole
    #[error("the nodes were asked for too few hits")]
    TooFewHits,
    /// There is no answer to every request of the plan.
    #[error("a node's answer is missing")]
    MissingAnswer,
}

/// The client's answer, and what could not be decided from the nodes' answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedAnswer {
    /// The JSON to send.
    pub body: Vec<u8>,
    /// Facet values of which one of several spellings was shown without knowing which is right: what a
    /// [`SpellingRound`](super::SpellingRound) is for.
    pub facet_conflicts: Vec<FacetConflict>,
}

/// The answers of all nodes, by request.
pub(super) struct Answers<'a> {
    pub(super) first: Vec<Answer<'a>>,
    pub(super) second: Vec<Answer<'a>>,
}

/// Which hits make the page, and what their selection told.
pub(super) struct Selection<'a> {
    pub(super) page: Vec<RankedHit<'a>>,
    /// Hits left out because a better hit of another node has the same distinct value.
    duplicates: usize,
    /// Hybrid only: how many hits of the page are semantic, and whether semantic hits were looked at.
    semantic_hits: usize,
    pub(super) is_keyword_only: bool,
}

impl SearchPlan {
    /// Makes the client's answer of the answer of a node that covers the whole index.
    pub fn finish_alone(&self, answer: &[u8]) -> Result<Vec<u8>, MergeError> {
        let view = self.view(|| came_with_vectors(answer), false);
        let mut facets = RawFacets::default();
        let mut total = 0;
        let mut out = Vec::with_capacity(answer.len());
        let mut writer = ObjectWriter::begin(&mut out);
        let mut cursor = Cursor::new(answer);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            if key == b"hits" {
                view.write_all(writer.key(key), &mut cursor)?;
                continue;
            }
            let value = cursor.value()?;
            match key {
                b"facetDistribution" => facets.distribution = Some(value),
                b"facetStats" => facets.stats = Some(value),
                _ => {
                    if key == b"totalHits" || key == b"estimatedTotalHits" {
                        total = unsigned(value).unwrap_or_default();
                    }
                    writer.member(key, value);
                }
            }
        }
        if facets.distribution.is_some() || facets.stats.is_some() {
            let (distribution, stats) = facets::finish_alone(&self.facet_shape, facets, total)?;
            facets.distribution.inspect(|_| writer.member(b"facetDistribution", &distribution));
            facets.stats.inspect(|_| writer.member(b"facetStats", &stats));
        }
        writer.end();
        Ok(out)
    }

    /// Merges the answers of nodes that cover the index together. Per node, the answers to the requests of
    /// [`SearchPlan::bodies`] in their order.
    pub fn merge(&self, answers: &[Vec<Bytes>], elapsed_ms: u64) -> Result<MergedAnswer, MergeError> {
        self.merge_settled(answers, elapsed_ms, &SpellingChoices::default())
    }

    /// Merges again, now that it is known how facet values are spelt.
    pub fn merge_settled(
        &self,
        answers: &[Vec<Bytes>],
        elapsed_ms: u64,
        choices: &SpellingChoices,
    ) -> Result<MergedAnswer, MergeError> {
        let answers = self.parse(answers)?;
        let (selection, maxima) = self.select_page(&answers)?;
        self.write_merged(&answers, &selection, &maxima, elapsed_ms, choices)
    }

    /// The answers of all nodes, read.
    pub(super) fn parse<'a>(&self, answers: &'a [Vec<Bytes>]) -> Result<Answers<'a>, MergeError> {
        let parse = |request: usize| -> Result<Vec<Answer<'_>>, MergeError> {
            answers
                .iter()
                .map(|node| {
                    let bytes = node.get(request).ok_or(MergeError::MissingAnswer)?;
                    Ok(Answer::parse(bytes)?)
                })
                .collect()
        };
        let needs_second = matches!(self.kind, SearchKind::Hybrid { .. }) || self.counts_distinct().is_some();
        let second = if needs_second { parse(1)? } else { Vec::new() };
        Ok(Answers { first: parse(0)?, second })
    }

    /// Chooses the hits of the page, and tells the scale their scores are on.
    pub(super) fn select_page<'a>(
        &self,
        answers: &Answers<'a>,
    ) -> Result<(Selection<'a>, Maxima), MergeError> {
        let mut maxima = Maxima::default();
        if self.needs_scores() || self.shows_details {
            for hit in answers.first.iter().flat_map(|answer| &answer.hits) {
                maxima.observe(&hit.parse_details()?);
            }
        }
        let selection = match self.kind {
            SearchKind::Hybrid { semantic_ratio } => self.select_hybrid(answers, &maxima, semantic_ratio)?,
            _ => self.select(&answers.first, &maxima)?,
        };
        Ok((selection, maxima))
    }

    pub(super) fn view(&self, came_with_vectors: impl Fn() -> bool, is_merge: bool) -> HitView<'_> {
        let projection = &self.projection;
        HitView {
            projection,
            unretrieve: self.unretrieve.as_ref().filter(|_| is_merge),
            shows_score: self.shows_score,
            shows_details: self.shows_details,
            hides_vectors: projection.vectors_are_limited && projection.hides_vectors(came_with_vectors()),
            hides_federation: self.is_federated,
            shows_vector_rule_only: false,
        }
    }

    /// Takes the best hits in order, one for each distinct value, as many as the page reaches.
    fn take_best<'a>(
        &self,
        answers: &[Answer<'a>],
        accepts: fn(&RankedHit<'a>) -> bool,
        maxima: &Maxima,
    ) -> Result<(Vec<RankedHit<'a>>, usize), MergeError> {
        let mut best = Vec::new();
        let mut duplicates = 0;
        let mut seen = Seen::default();
        let mut best_first = BestFirst::new(answers, accepts, self.reach())?;
        while best.len() < self.reach() {
            if best_first.ran_dry() {
                return Err(MergeError::TooFewHits);
            }
            let Some(ranked) = best_first.next()? else { break };
            if self.is_below_threshold(&ranked, maxima) {
                continue;
            }
            if let Some(attribute) = &self.distinct
                && !seen.admit(values_of(ranked.hit.raw, attribute)?)
            {
                duplicates += 1;
                continue;
            }
            best.push(ranked);
        }
        // Hits further down that share a value with one taken count no more than if they had been met.
        if let Some(attribute) = &self.distinct {
            while let Some(ranked) = best_first.next()? {
                duplicates += usize::from(seen.has_any(&values_of(ranked.hit.raw, attribute)?));
            }
        }
        Ok((place_pinned(best, best_first.into_pinned()), duplicates))
    }

    fn is_below_threshold(&self, ranked: &RankedHit, maxima: &Maxima) -> bool {
        let Some(threshold) = self.threshold else { return false };
        common_score(ranked, maxima).is_some_and(|score| score < threshold)
    }

    fn select<'a>(&self, answers: &[Answer<'a>], maxima: &Maxima) -> Result<Selection<'a>, MergeError> {
        let (best, duplicates) = self.take_best(answers, |_| true, maxima)?;
        let page = best.into_iter().skip(self.first).take(self.count).collect();
        Ok(Selection { page, duplicates, semantic_hits: 0, is_keyword_only: false })
    }

    fn select_hybrid<'a>(
        &self,
        answers: &Answers<'a>,
        maxima: &Maxima,
        semantic_ratio: f32,
    ) -> Result<Selection<'a>, MergeError> {
        let (keyword, keyword_duplicates) = self.take_best(&answers.first, |_| true, maxima)?;
        let keyword: Vec<HybridHit> =
            keyword.into_iter().map(|ranked| HybridHit::new(ranked, false, maxima)).collect();
        let (semantic, semantic_duplicates) =
            self.take_best(&answers.second, RankedHit::is_semantic, &Maxima::default())?;
        let is_keyword_only =
            are_good_enough(&keyword, self.reach(), semantic_ratio) || !any_semantic(&answers.second);
        if is_keyword_only {
            let page = keyword.into_iter().skip(self.first).take(self.count).map(|hit| hit.ranked).collect();
            let duplicates = keyword_duplicates;
            return Ok(Selection { page, duplicates, semantic_hits: 0, is_keyword_only });
        }
        let semantic = semantic.into_iter().map(|ranked| HybridHit::new(ranked, true, maxima)).collect();
        let mut seen = Seen::default();
        let mut page = Vec::new();
        let mut semantic_hits = 0;
        let mut passed = 0;
        for hit in interleave(semantic, keyword, semantic_ratio) {
            if let Some(attribute) = &self.distinct
                && !seen.admit(values_of(hit.ranked.hit.raw, attribute)?)
            {
                continue;
            }
            passed += 1;
            if passed <= self.first {
                continue;
            }
            if page.len() >= self.count {
                break;
            }
            semantic_hits += usize::from(hit.is_semantic);
            page.push(hit.ranked);
        }
        Ok(Selection { page, duplicates: semantic_duplicates, semantic_hits, is_keyword_only })
    }

    fn write_merged(
        &self,
        answers: &Answers,
        selection: &Selection,
        maxima: &Maxima,
        elapsed_ms: u64,
        choices: &SpellingChoices,
    ) -> Result<MergedAnswer, MergeError> {
        let is_hybrid = matches!(self.kind, SearchKind::Hybrid { .. });
        // Of a hybrid search, the second answer is the whole one, unless only keyword hits count.
        let counted = if is_hybrid && !selection.is_keyword_only { &answers.second } else { &answers.first };
        let outline = if is_hybrid { &answers.second } else { &answers.first };
        let outline = outline.first().ok_or(MergeError::MissingAnswer)?;
        let sum = counted.iter().fold(0u64, |sum, answer| sum.saturating_add(answer.total()));
        let total = self.total(answers, sum, selection)?;

        let facets: Vec<RawFacets> = counted.iter().map(raw_facets).collect();
        let has_facets = facets.iter().any(|facets| facets.distribution.is_some());
        let facets = if has_facets {
            let in_shards = facets.iter().map(count_documents).sum::<Result<u64, _>>()?;
            facets::merge(&self.facet_shape, &facets, sum.max(in_shards), choices)?
        } else {
            Default::default()
        };

        let hit_bytes: usize = selection.page.iter().map(|ranked| ranked.hit.raw.len()).sum();
        let mut body = Vec::with_capacity(hit_bytes + facets.distribution.len() + facets.stats.len() + 256);
        let mut writer = ObjectWriter::begin(&mut body);
        for (key, value) in &outline.members {
            match *key {
                b"hits" => self.write_hits(writer.key(key), answers, selection, maxima)?,
                b"processingTimeMs" => write_json(writer.key(key), &elapsed_ms),
                b"offset" => write_json(writer.key(key), &self.first),
                b"limit" => write_json(writer.key(key), &self.limit_shown),
                b"estimatedTotalHits" | b"totalHits" => write_json(writer.key(key), &total),
                b"page" | b"hitsPerPage" | b"totalPages" => match self.paging {
                    Paging::Pages { page, hits_per_page } => {
                        let number = match *key {
                            b"page" => page,
                            b"hitsPerPage" => hits_per_page,
                            _ => total_pages(total, hits_per_page),
                        };
                        write_json(writer.key(key), &number);
                    }
                    Paging::Offset => writer.member(key, value),
                },
                b"facetDistribution" => writer.member(key, &facets.distribution),
                b"facetStats" => writer.member(key, &facets.stats),
                b"semanticHitCount" if is_hybrid => {
                    write_json(writer.key(key), &selection.semantic_hits);
                }
                b"semanticHitCount" => write_json(writer.key(key), &selection.page.len()),
                b"queryVector" if selection.is_keyword_only => {}
                _ => writer.member(key, value),
            }
        }
        writer.end();
        Ok(MergedAnswer { body, facet_conflicts: facets.conflicts })
    }

    fn write_hits(
        &self,
        out: &mut Vec<u8>,
        answers: &Answers,
        selection: &Selection,
        maxima: &Maxima,
    ) -> Result<(), MergeError> {
        let all = || answers.first.iter().chain(&answers.second);
        let view = self.view(|| all().any(Answer::came_with_vectors), true);
        out.push(b'[');
        for (index, ranked) in selection.page.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let rescaled = maxima.rescale(&ranked.details);
            let scale = rescaled.as_ref().map(|rescaled| (&ranked.details, rescaled));
            view.write(out, &ranked.hit, scale)?;
        }
        out.push(b']');
        Ok(())
    }

    /// How many documents match, within what the index lets be reached.
    fn total(&self, answers: &Answers, sum: u64, selection: &Selection) -> Result<usize, MergeError> {
        let sum = usize::try_from(sum).unwrap_or(usize::MAX);
        let Some(attribute) = self.counts_distinct() else {
            return Ok(sum.saturating_sub(selection.duplicates).min(self.max_total_hits));
        };
        // A node that has more than can be listed makes the total more than can be reached.
        let is_cut = answers.second.iter().any(|answer| answer.total() > answer.hits.len() as u64);
        if is_cut {
            return Ok(sum.min(self.max_total_hits));
        }
        let mut seen = Seen::default();
        let mut total = 0usize;
        for hit in answers.second.iter().flat_map(|answer| &answer.hits) {
            total += usize::from(seen.admit(values_of(hit.raw, attribute)?));
        }
        Ok(total.min(self.max_total_hits))
    }
}

fn any_semantic(answers: &[Answer]) -> bool {
    answers.iter().any(|answer| answer.member("semanticHitCount").and_then(unsigned).unwrap_or_default() > 0)
}

fn raw_facets<'a>(answer: &Answer<'a>) -> RawFacets<'a> {
    RawFacets { distribution: answer.member("facetDistribution"), stats: answer.member("facetStats") }
}

/// As Meilisearch computes it, including that a page size near the largest integer gives no pages.
fn total_pages(total: usize, hits_per_page: usize) -> usize {
    total.wrapping_add(hits_per_page.saturating_sub(1)).checked_div(hits_per_page).unwrap_or(0)
}
