//! Search requests generated from a seed and a corpus: what people send, and what one would fear.

mod beyond;
mod filter;
mod kind;
mod query;

use std::borrow::Cow;

use reqwest::Method;
use serde_json::{Value, json};

use crate::corpus::{Corpus, Dice, vector};

pub use kind::{Exception, Kind, Part};

/// One generated request.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// What is special about it.
    pub kind: Kind,
    /// Its parameters, as the body of a POST.
    pub body: Value,
}

impl SearchRequest {
    /// How to send it: method, path with query string, body.
    pub fn parts(&self, index: &str) -> (Method, String, Option<Cow<'_, Value>>) {
        let body = Some(Cow::Borrowed(&self.body));
        match self.kind {
            Kind::ViaGet => {
                (Method::GET, format!("/indexes/{index}/search?{}", query_string(&self.body)), None)
            }
            Kind::Similar => (Method::POST, format!("/indexes/{index}/similar"), body),
            Kind::MultiSearch | Kind::Federated => {
                let mut body = self.body.clone();
                for query in body["queries"].as_array_mut().into_iter().flatten() {
                    query["indexUid"] = json!(index);
                }
                (Method::POST, "/multi-search".to_owned(), Some(Cow::Owned(body)))
            }
            _ => (Method::POST, format!("/indexes/{index}/search"), body),
        }
    }
}

/// Generates requests for one corpus.
#[derive(Debug)]
pub struct Generator<'corpus> {
    corpus: &'corpus Corpus,
    dice: Dice,
    /// For what is beyond a search: searches are the same with and without it.
    other_dice: Dice,
    kinds: Vec<Kind>,
    position: usize,
}

impl<'corpus> Generator<'corpus> {
    /// The requests of a seed.
    pub fn new(corpus: &'corpus Corpus, seed: u64) -> Self {
        let possible = |kind: &Kind| match kind {
            Kind::FilterGeo | Kind::SortGeo => corpus.has_geo,
            Kind::FacetsSpelling => !corpus.spelling_facets.is_empty(),
            Kind::FacetsMixed => !corpus.mixed_facets.is_empty(),
            Kind::Vector | Kind::Hybrid | Kind::Similar => corpus.vector_dimensions > 0,
            _ => true,
        };
        // Round after round, each kind once; the heavier ones come back in between.
        let heaviest = Kind::ALL.into_iter().map(Kind::weight).max().unwrap_or(1);
        let kinds = (0..heaviest)
            .flat_map(|round| Kind::ALL.into_iter().filter(move |kind| kind.weight() > round))
            .filter(possible)
            .collect();
        let other_dice = Dice::new(seed.wrapping_add(1));
        Self { corpus, dice: Dice::new(seed), other_dice, kinds, position: 0 }
    }

    /// The next request.
    pub fn next_request(&mut self) -> SearchRequest {
        let kind = self.kinds[self.position % self.kinds.len()];
        self.position += 1;
        if kind.is_beyond_search() {
            return self.beyond_search(kind);
        }
        let mut body = self.body(kind);
        // A quarter of all requests asks for more or less than the usual page.
        if body.get("limit").is_none() && body.get("hitsPerPage").is_none() && self.dice.once_in(4) {
            body["limit"] = json!(self.dice.between(1, 60));
        }
        SearchRequest { kind, body }
    }

    fn body(&mut self, kind: Kind) -> Value {
        match kind {
            Kind::Word => json!({ "q": self.words(1) }),
            Kind::Words => json!({ "q": self.some_words(2, 4) }),
            Kind::Typo => json!({ "q": self.typo() }),
            Kind::Prefix => json!({ "q": self.prefix() }),
            Kind::Phrase => json!({ "q": self.phrase() }),
            Kind::Negative => json!({ "q": format!("{} -{}", self.some_words(0, 2), self.words(1)) }),
            Kind::Number => json!({ "q": self.number() }),
            Kind::Unicode => json!({ "q": self.unicode() }),
            Kind::Placeholder => self.placeholder(),
            Kind::LongQuery => json!({ "q": self.some_words(8, 14) }),
            Kind::FilterCompare => json!({ "q": self.some_words(0, 1), "filter": self.comparison() }),
            Kind::FilterArrays => json!({ "q": self.some_words(0, 1), "filter": self.nested_filter() }),
            Kind::FilterText => json!({ "q": self.some_words(0, 1), "filter": self.text_filter() }),
            Kind::FilterGeo => json!({ "q": self.some_words(0, 1), "filter": self.geo_filter() }),
            Kind::SortNumber => {
                json!({ "q": self.some_words(0, 2), "sort": [self.sort_rule(self.corpus.number_sort())] })
            }
            Kind::SortText => {
                json!({ "q": self.some_words(0, 1), "sort": [self.sort_rule(self.corpus.text_sort())] })
            }
            Kind::SortMixed => {
                let (first, second) = (self.any_sort(), self.any_sort());
                json!({ "q": self.some_words(0, 1), "sort": [first, second] })
            }
            Kind::SortGeo => json!({ "q": self.some_words(0, 1), "sort": self.geo_sort() }),
            Kind::Distinct => {
                json!({ "q": self.some_words(0, 2), "distinct": self.dice.pick(self.corpus.distinct_fields) })
            }
            Kind::DistinctPages => {
                let mut body = self.pages();
                body["distinct"] = json!(self.dice.pick(self.corpus.distinct_fields));
                body
            }
            Kind::Facets => json!({ "q": self.some_words(0, 1), "facets": self.facets(), "limit": 5 }),
            Kind::FacetsSpelling => self.facets_of(self.corpus.spelling_facets),
            Kind::FacetsMixed => self.facets_of(self.corpus.mixed_facets),
            Kind::FacetsByCount => json!({ "q": self.some_words(0, 1), "facets": [self.corpus.count_facet] }),
            Kind::Highlight => self.highlight(),
            Kind::Crop => self.crop(),
            Kind::MatchesPosition => json!({ "q": self.some_words(1, 3), "showMatchesPosition": true }),
            Kind::RankingScore => json!({ "q": self.some_words(0, 3), "showRankingScore": true }),
            Kind::RankingScoreDetails => {
                json!({ "q": self.some_words(0, 3), "showRankingScoreDetails": true, "limit": 10 })
            }
            Kind::OffsetLimit => {
                let (offset, limit) = (self.dice.between(0, 400), self.dice.between(0, 40));
                json!({ "q": self.some_words(0, 1), "offset": offset, "limit": limit })
            }
            Kind::Pages => self.pages(),
            Kind::StrategyAll => json!({ "q": self.some_words(2, 4), "matchingStrategy": "all" }),
            Kind::StrategyFrequency => json!({ "q": self.some_words(2, 4), "matchingStrategy": "frequency" }),
            Kind::Retrieve => self.retrieve(),
            Kind::SearchOn => self.search_on(),
            Kind::Threshold => {
                let threshold = self.dice.between(0, 100) as f64 / 100.0;
                json!({ "q": self.some_words(1, 3), "rankingScoreThreshold": threshold })
            }
            Kind::Locales => {
                let locale = *self.dice.pick(&["eng", "jpn", "fra", "en"]);
                let words = if self.dice.once_in(2) { self.unicode() } else { self.some_words(1, 2) };
                json!({ "q": words, "locales": [locale] })
            }
            Kind::ViaGet | Kind::Combined => self.combined(),
            Kind::Wrong => self.wrong(),
            Kind::Vector => {
                let vector = vector(&mut self.dice, self.corpus.vector_dimensions);
                let retrieve = self.dice.once_in(3);
                json!({ "vector": vector, "hybrid": { "embedder": "manual", "semanticRatio": 1.0 },
                        "retrieveVectors": retrieve, "limit": self.dice.between(1, 20) })
            }
            // Made by `beyond_search`.
            Kind::Similar | Kind::MultiSearch | Kind::Federated => json!({}),
            Kind::Hybrid => {
                let vector = vector(&mut self.dice, self.corpus.vector_dimensions);
                let ratio = *self.dice.pick(&[0.0, 0.25, 0.5, 0.75, 0.9]);
                json!({ "q": self.some_words(1, 2), "vector": vector,
                        "hybrid": { "embedder": "manual", "semanticRatio": ratio } })
            }
        }
    }

    fn placeholder(&mut self) -> Value {
        let limit = self.dice.between(1, 100);
        match self.dice.below(4) {
            0 => json!({ "limit": limit }),
            1 => json!({ "q": "", "limit": limit }),
            2 => json!({ "q": "   ", "limit": limit }),
            _ => json!({ "q": null, "limit": limit }),
        }
    }

    fn sort_rule(&mut self, fields: &[&str]) -> String {
        format!("{}:{}", self.dice.pick(fields), self.dice.pick(&["asc", "desc"]))
    }

    fn any_sort(&mut self) -> String {
        self.sort_rule(self.corpus.sort_fields)
    }

    fn geo_sort(&mut self) -> Value {
        let (latitude, longitude) = self.place();
        let rule = format!("_geoPoint({latitude}, {longitude}):{}", self.dice.pick(&["asc", "desc"]));
        if self.dice.once_in(3) { json!([self.any_sort(), rule]) } else { json!([rule, self.any_sort()]) }
    }

    fn place(&mut self) -> (f64, f64) {
        (40.0 + self.dice.between(0, 1_000) as f64 / 100.0, -5.0 + self.dice.between(0, 1_500) as f64 / 100.0)
    }

    fn facets(&mut self) -> Value {
        let fields = self.corpus.plain_facets;
        let (first, second) = (*self.dice.pick(fields), *self.dice.pick(fields));
        json!([first, second])
    }

    fn facets_of(&mut self, fields: &[&str]) -> Value {
        json!({ "q": self.some_words(0, 1), "facets": [self.dice.pick(fields)], "limit": 5 })
    }

    fn pages(&mut self) -> Value {
        let furthest = if self.dice.once_in(6) { 20 } else { 3 };
        let (page, size) = (self.dice.between(0, furthest), self.dice.between(0, 20));
        json!({ "q": self.some_words(0, 1), "page": page, "hitsPerPage": size })
    }

    fn highlight(&mut self) -> Value {
        let fields = if self.dice.once_in(2) { json!(["*"]) } else { json!([self.corpus.text_fields[0]]) };
        let mut body = json!({ "q": self.some_words(0, 3), "attributesToHighlight": fields });
        if self.dice.once_in(3) {
            body["highlightPreTag"] = json!("**");
            body["highlightPostTag"] = json!("</mark>");
        }
        body
    }

    fn crop(&mut self) -> Value {
        let field = self.dice.pick(self.corpus.text_fields);
        let fields = match self.dice.below(3) {
            0 => json!(["*"]),
            1 => json!([field]),
            _ => json!([format!("{field}:{}", self.dice.between(1, 12))]),
        };
        let mut body = json!({ "q": self.some_words(0, 3), "attributesToCrop": fields });
        if self.dice.once_in(2) {
            body["cropLength"] = json!(self.dice.between(1, 10));
            body["cropMarker"] = json!("[..]");
            body["attributesToHighlight"] = json!([field]);
        }
        body
    }

    fn retrieve(&mut self) -> Value {
        let text = *self.dice.pick(self.corpus.text_fields);
        let fields = match self.dice.below(5) {
            0 => json!(["*"]),
            1 => json!([]),
            2 => json!([self.corpus.primary_key, text]),
            3 => json!([text.split('.').next(), "no such field"]),
            _ => json!([text]),
        };
        json!({ "q": self.some_words(0, 2), "attributesToRetrieve": fields, "attributesToHighlight": [text] })
    }

    fn search_on(&mut self) -> Value {
        let fields = self.corpus.text_fields;
        let on = [*self.dice.pick(&fields[..3]), *self.dice.pick(&fields[..3])];
        json!({ "q": self.some_words(1, 3), "attributesToSearchOn": on })
    }

    fn combined(&mut self) -> Value {
        let (sort, text) = (self.any_sort(), *self.dice.pick(self.corpus.text_fields));
        json!({
            "q": self.some_words(1, 2), "filter": self.text_filter(), "sort": [sort], "facets": self.facets(),
            "attributesToHighlight": [text], "attributesToCrop": [text], "cropLength": 4,
            "showMatchesPosition": true, "offset": self.dice.between(0, 5), "limit": self.dice.between(1, 15),
        })
    }

    fn wrong(&mut self) -> Value {
        const WRONG: [&str; 22] = [
            r#"{"q":7}"#,
            r#"{"limit":-1}"#,
            r#"{"limit":"ten"}"#,
            r#"{"offset":1.5}"#,
            r#"{"filter":"price >"}"#,
            r#"{"filter":"nowhere = 1"}"#,
            r#"{"filter":{"price":1}}"#,
            r#"{"filter":[["id = 1"],["nowhere = 1"]]}"#,
            r#"{"filter":"_geoRadius(1000, 1)"}"#,
            r#"{"sort":["nowhere:asc"]}"#,
            r#"{"sort":["price"]}"#,
            r#"{"sort":"price:asc"}"#,
            r#"{"facets":["nowhere"]}"#,
            r#"{"distinct":"nowhere"}"#,
            r#"{"attributesToSearchOn":["nowhere"]}"#,
            r#"{"matchingStrategy":"some"}"#,
            r#"{"rankingScoreThreshold":2}"#,
            r#"{"page":-1}"#,
            r#"{"noSuchParameter":1}"#,
            r#"{"hybrid":{"embedder":"nowhere"}}"#,
            r#"{"vector":[1,2]}"#,
            r#"{"locales":["xx"]}"#,
        ];
        let parameters = self.dice.pick(&WRONG);
        serde_json::from_str(parameters).expect("the wrong requests are right JSON")
    }
}

impl Corpus {
    fn number_sort(&self) -> &'static [&'static str] {
        &self.sort_fields[..2]
    }

    fn text_sort(&self) -> &'static [&'static str] {
        &self.sort_fields[3..]
    }
}

/// The parameters as a query string, as `GET /indexes/{uid}/search` takes them.
fn query_string(body: &Value) -> String {
    let parameters = body.as_object().expect("a search is an object").iter();
    let written = parameters.filter(|(_, value)| !value.is_null()).map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            // A list is written with commas, but a nested filter as JSON.
            Value::Array(items) if items.iter().all(Value::is_string) && name != "filter" => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        format!("{name}={}", percent_encoded(&text))
    });
    written.collect::<Vec<_>>().join("&")
}

/// Everything but letters and digits as %XX.
pub fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
