//! The kinds of search request that are compared, so that each has a rate of its own in the fidelity table.

use crate::compare::{FACETS, TOTALS, is_in};

/// What is special about a generated request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is what its label says")]
pub enum Kind {
    Word,
    Words,
    Typo,
    Prefix,
    Phrase,
    Negative,
    Number,
    Unicode,
    Placeholder,
    LongQuery,
    FilterCompare,
    FilterArrays,
    FilterText,
    FilterGeo,
    SortNumber,
    SortText,
    SortMixed,
    SortGeo,
    Distinct,
    DistinctPages,
    Facets,
    FacetsSpelling,
    FacetsMixed,
    FacetsByCount,
    Highlight,
    Crop,
    MatchesPosition,
    RankingScore,
    RankingScoreDetails,
    OffsetLimit,
    Pages,
    StrategyAll,
    StrategyFrequency,
    Retrieve,
    SearchOn,
    Threshold,
    Locales,
    ViaGet,
    Combined,
    Wrong,
    Vector,
    Hybrid,
    Similar,
    MultiSearch,
    Federated,
}

impl Kind {
    /// All kinds, in the order of the table.
    pub const ALL: [Self; 45] = [
        Self::Word,
        Self::Words,
        Self::Typo,
        Self::Prefix,
        Self::Phrase,
        Self::Negative,
        Self::Number,
        Self::Unicode,
        Self::Placeholder,
        Self::LongQuery,
        Self::FilterCompare,
        Self::FilterArrays,
        Self::FilterText,
        Self::FilterGeo,
        Self::SortNumber,
        Self::SortText,
        Self::SortMixed,
        Self::SortGeo,
        Self::Distinct,
        Self::DistinctPages,
        Self::Facets,
        Self::FacetsSpelling,
        Self::FacetsMixed,
        Self::FacetsByCount,
        Self::Highlight,
        Self::Crop,
        Self::MatchesPosition,
        Self::RankingScore,
        Self::RankingScoreDetails,
        Self::OffsetLimit,
        Self::Pages,
        Self::StrategyAll,
        Self::StrategyFrequency,
        Self::Retrieve,
        Self::SearchOn,
        Self::Threshold,
        Self::Locales,
        Self::ViaGet,
        Self::Combined,
        Self::Wrong,
        Self::Vector,
        Self::Hybrid,
        Self::Similar,
        Self::MultiSearch,
        Self::Federated,
    ];

    /// As the table names it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Word => "one word",
            Self::Words => "several words",
            Self::Typo => "typos",
            Self::Prefix => "prefix",
            Self::Phrase => "phrase",
            Self::Negative => "negative words",
            Self::Number => "numbers",
            Self::Unicode => "accents, CJK, emoji, capitals",
            Self::Placeholder => "no query",
            Self::LongQuery => "long query",
            Self::FilterCompare => "filter: numbers",
            Self::FilterArrays => "filter: nested arrays",
            Self::FilterText => "filter: texts, EXISTS, NULL, EMPTY",
            Self::FilterGeo => "filter: geo",
            Self::SortNumber => "sort: numbers",
            Self::SortText => "sort: texts",
            Self::SortMixed => "sort: mixed types, two keys",
            Self::SortGeo => "sort: geo",
            Self::Distinct => "distinct",
            Self::DistinctPages => "distinct with pages",
            Self::Facets => "facets",
            Self::FacetsSpelling => "facets: values spelt in several ways",
            Self::FacetsMixed => "facets: numbers and texts that look alike",
            Self::FacetsByCount => "facets: many values, ordered by count",
            Self::Highlight => "highlight",
            Self::Crop => "crop",
            Self::MatchesPosition => "showMatchesPosition",
            Self::RankingScore => "showRankingScore",
            Self::RankingScoreDetails => "showRankingScoreDetails",
            Self::OffsetLimit => "offset and limit",
            Self::Pages => "page and hitsPerPage",
            Self::StrategyAll => "matchingStrategy all",
            Self::StrategyFrequency => "matchingStrategy frequency",
            Self::Retrieve => "attributesToRetrieve",
            Self::SearchOn => "attributesToSearchOn",
            Self::Threshold => "rankingScoreThreshold",
            Self::Locales => "locales",
            Self::ViaGet => "GET instead of POST",
            Self::Combined => "everything combined",
            Self::Wrong => "wrong parameters",
            Self::Vector => "vector",
            Self::Hybrid => "hybrid",
            Self::Similar => "similar documents",
            Self::MultiSearch => "multi-search",
            Self::Federated => "federated search",
        }
    }

    /// Whether it is more than one search, or none at all.
    pub fn is_beyond_search(self) -> bool {
        matches!(self, Self::Similar | Self::MultiSearch | Self::Federated)
    }

    /// How many times as often as others it is generated: plain searches are what people send most.
    pub fn weight(self) -> usize {
        match self {
            Self::Word | Self::Words | Self::Typo | Self::Prefix | Self::Phrase => 8,
            Self::FilterText | Self::SortNumber | Self::Placeholder | Self::Highlight => 4,
            Self::Similar | Self::MultiSearch | Self::Federated => 2,
            _ => 1,
        }
    }

    /// Which part of the answers of this kind cannot always be equal; `None`: everything must be.
    pub fn exception(self) -> Option<&'static Exception> {
        match self {
            Self::StrategyFrequency => Some(&FREQUENCY),
            Self::Distinct | Self::Threshold => Some(&ESTIMATES),
            Self::Prefix | Self::Words | Self::Typo | Self::LongQuery => Some(&PREFIXES),
            // Their queries end in words as short, so that they are prefixes like the others.
            Self::Number | Self::Unicode | Self::Locales => Some(&PREFIXES),
            Self::FacetsMixed => Some(&LOOK_ALIKES),
            Self::FacetsByCount => Some(&TIED_COUNTS),
            Self::Highlight | Self::Crop | Self::MatchesPosition | Self::ViaGet | Self::Combined => {
                Some(&MARKS)
            }
            _ => None,
        }
    }
}

const FREQUENCY: Exception = Exception {
    part: Part::Anything,
    at_least: 0.85,
    reason: "words are dropped from the most frequent on, and a node only knows how frequent a word is in its own \
             documents; nodes are made to agree on the order, but not for queries of more than six words, with quoted \
             or excluded words, or in other scripts than Latin",
};
const PREFIXES: Exception = Exception {
    part: Part::Anything,
    at_least: 0.98,
    reason: "the last word of a query is a prefix, and Meilisearch precomputes the neighbours of a prefix of up to four \
             letters once at least 100 words begin with it; of the same words a node may hold fewer, and then \
             proximity is computed in another way",
};
const ESTIMATES: Exception = Exception {
    part: Part::Totals,
    at_least: 0.3,
    reason: "`estimatedTotalHits` subtracts only what was left out before the page was full, and what that was \
             depends on how all documents together fall into groups of equal rank; with `page` the total is exact \
             and equal",
};
const LOOK_ALIKES: Exception = Exception {
    part: Part::Facets,
    at_least: 0.1,
    reason: "when a number and a text look alike (`7` and `\"7\"`), Meilisearch lists the count of the text only, and \
             a node does not say which of the two it counted",
};
const TIED_COUNTS: Exception = Exception {
    part: Part::Facets,
    at_least: 0.4,
    reason: "the order of values with equal counts, and which of them are cut, follows from the tree in which \
             Meilisearch stores all values of all documents",
};
const MARKS: Exception = Exception {
    part: Part::Marks,
    at_least: 0.95,
    reason: "which misspelt words are marked in `_formatted` and `_matchesPosition` depends on how far Meilisearch had \
             to look for typos to fill the page, and a node has to look more or less far than one Meilisearch with \
             everything",
};

/// A part of the answers to a kind of request that may differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exception {
    /// The only part that may differ.
    pub part: Part,
    /// The share of answers that must be equal all the same, so that an exception cannot hide a mistake.
    pub at_least: f64,
    /// Why.
    pub reason: &'static str,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything, hits included.
    Anything,
    /// The totals.
    Totals,
    /// The facets.
    Facets,
    /// What is marked as matching in the hits.
    Marks,
}

impl Part {
    /// Whether a differing place of an answer belongs to it.
    pub fn contains(self, place: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Totals => is_in(place, TOTALS),
            Self::Facets => is_in(place, FACETS),
            Self::Marks => {
                place.starts_with("hits[")
                    && (place.contains("]._matchesPosition") || place.contains("]._formatted"))
            }
        }
    }

    /// As the table names it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Anything => "hits",
            Self::Totals => "totals",
            Self::Facets => "facets",
            Self::Marks => "marks",
        }
    }
}
