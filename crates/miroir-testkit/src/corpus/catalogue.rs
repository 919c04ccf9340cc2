//! A shop's catalogue, generated: natural word frequencies, and every oddity of real data. Fields that are missing,
//! null, empty, or of another type than usual; accents, CJK and emoji; numbers in digits and in words; capitals.

use serde_json::{Map, Value, json};

use crate::corpus::{Corpus, Dice, Vocabulary};

/// Length of the vectors.
const DIMENSIONS: usize = 96;
/// Documents that have a vector. So few, and so long, that Meilisearch's index of vectors is exact: with many, it is
/// approximate and built at random, and one Meilisearch differs from another.
const VECTORS: usize = 90;

const BRANDS: [&str; 14] = [
    "Northwind",
    "Contoso",
    "Élan",
    "ACME",
    "acme",
    "Fabrikam",
    "Ōsaka Works",
    "Müller & Söhne",
    "3M",
    "42 Labs",
    "Blue Yonder",
    "blue yonder",
    "Zażółć",
    "Q",
];
const MAINS: [&str; 7] = ["Kitchen", "Garden", "Books", "Music", "Sport", "Travel", "Toys"];
const SUBS: [&str; 9] = ["new", "used", "vintage", "New", "rare", "gift", "spare-parts", "A&B", "misc"];
const TAGS: [&str; 16] = [
    "sale",
    "red",
    "blue",
    "eco",
    "limited",
    "2024",
    "2025",
    "best seller",
    "B2B",
    "Été",
    "C++",
    "handmade",
    "xl",
    "été",
    "1",
    "one",
];
const FOREIGN: [&str; 12] = [
    "東京タワー",
    "緑茶",
    "北京烤鸭",
    "서울 여행",
    "café crème",
    "naïve façade",
    "Straße",
    "смартфон",
    "ελληνικά",
    "🎸 guitar",
    "☕ coffee",
    "ภาษาไทย",
];
const NUMBER_WORDS: [&str; 10] =
    ["1984", "2001", "42", "seven", "7", "3.14", "1000", "one thousand", "007", "1,000"];

/// The catalogue of a seed.
pub fn catalogue(seed: u64, count: usize) -> Corpus {
    let mut dice = Dice::new(seed);
    let vocabulary = Vocabulary::generate(&mut dice, 3_000);
    let documents = (0..count)
        .map(|number| {
            let mut product = product(&mut dice, &vocabulary, number);
            // A document without one has to say so, or its whole batch fails.
            let has_vector = number % count.div_ceil(VECTORS) == 0;
            let vector = if has_vector { json!(vector(&mut dice, DIMENSIONS)) } else { Value::Null };
            product["_vectors"] = json!({ "manual": vector });
            product
        })
        .collect();
    Corpus {
        name: "catalogue",
        primary_key: "id",
        documents,
        text_fields: &["title", "description", "brand", "tags", "category.main"],
        number_fields: &["price", "rating", "released", "stock.count"],
        category_fields: &["brand", "category.main", "category.sub", "tags", "in_stock", "size"],
        plain_facets: &["category.main", "in_stock", "rating", "released", "stock.count"],
        spelling_facets: &["brand", "category.sub"],
        mixed_facets: &["price", "size", "tags"],
        count_facet: "group",
        sort_fields: &[
            "price",
            "rating",
            "released",
            "title",
            "size",
            "code",
            "stock.count",
            "category.main",
        ],
        distinct_fields: &["brand", "category.main", "group", "size"],
        has_geo: true,
        vector_dimensions: DIMENSIONS,
    }
}

fn product(dice: &mut Dice, vocabulary: &Vocabulary, number: usize) -> Value {
    let mut product = Map::new();
    // Neither the order of ids nor their form follows the order of insertion.
    let id = (number * 7_919) % 1_000_003;
    product.insert("id".into(), if dice.once_in(5) { json!(id.to_string()) } else { json!(id) });
    product.insert("title".into(), json!(title(dice, vocabulary)));
    if !dice.once_in(12) {
        let length = 4 + dice.below(30);
        product.insert("description".into(), json!(description(dice, vocabulary, length)));
    }
    if !dice.once_in(10) {
        product.insert("brand".into(), json!(BRANDS[dice.zipf(BRANDS.len())]));
    }
    if !dice.once_in(15) {
        let mut category = Map::new();
        category.insert("main".into(), json!(dice.pick(&MAINS)));
        if !dice.once_in(4) {
            category.insert("sub".into(), json!(dice.pick(&SUBS)));
        }
        product.insert("category".into(), Value::Object(category));
    }
    match dice.below(20) {
        0 => {}
        1 => drop(product.insert("price".into(), Value::Null)),
        2 => drop(product.insert("price".into(), json!("on request"))),
        3 => drop(product.insert("price".into(), json!(dice.between(1, 30).to_string()))),
        // Few different prices, so that sorting has ties.
        4..=11 => drop(product.insert("price".into(), json!(dice.between(1, 30)))),
        _ => drop(product.insert("price".into(), json!(dice.between(100, 99_999) as f64 / 100.0))),
    }
    if !dice.once_in(6) {
        product.insert("rating".into(), json!(dice.between(0, 10) as f64 / 2.0));
    }
    if !dice.once_in(8) {
        let mut tags: Vec<Value> = (0..dice.below(5)).map(|_| json!(TAGS[dice.zipf(TAGS.len())])).collect();
        if dice.once_in(20) {
            tags.push(json!(2024));
        }
        product.insert("tags".into(), Value::Array(tags));
    }
    if !dice.once_in(9) {
        product.insert("in_stock".into(), json!(dice.once_in(2)));
    }
    product.insert("released".into(), json!(1_500_000_000 + 86_400 * dice.between(0, 3_000)));
    product.insert("group".into(), json!(dice.below(200)));
    let size = match dice.below(6) {
        0 => json!(dice.between(36, 46)),
        1 => json!(dice.between(36, 46).to_string()),
        2 => json!("M"),
        3 => json!("m"),
        4 => json!(["S", "L", 40]),
        _ => Value::Null,
    };
    product.insert("size".into(), size);
    let code = match dice.below(4) {
        0 => json!(dice.between(-50, 50)),
        1 => json!(format!("XA-{}", dice.below(100))),
        2 => json!(dice.unit() * 100.0),
        _ => json!(dice.once_in(2)),
    };
    product.insert("code".into(), code);
    if dice.once_in(3) {
        product.insert("stock".into(), json!({ "count": dice.between(0, 500), "place": dice.pick(&MAINS) }));
    }
    if dice.once_in(25) {
        product.insert("notes".into(), json!({ "": "", "deep": { "er": [{ "x": 1 }, { "x": "one" }, []] } }));
    }
    match dice.below(4) {
        0 => {}
        1 if dice.once_in(4) => drop(product.insert("_geo".into(), Value::Null)),
        _ => {
            let latitude = 40.0 + dice.between(0, 1_000) as f64 / 100.0;
            let longitude = -5.0 + dice.between(0, 1_500) as f64 / 100.0;
            product.insert("_geo".into(), json!({ "lat": latitude, "lng": longitude }));
        }
    }
    Value::Object(product)
}

/// A vector with a few decimals.
pub fn vector(dice: &mut Dice, dimensions: usize) -> Vec<f64> {
    (0..dimensions).map(|_| dice.between(-1_000, 1_000) as f64 / 1_000.0).collect()
}

fn title(dice: &mut Dice, vocabulary: &Vocabulary) -> String {
    let length = 1 + dice.below(6);
    let text = vocabulary.text(dice, length);
    match dice.below(14) {
        0 => text.to_uppercase(),
        1 | 2 => capitalised(&text),
        3 => format!("{text} {}", dice.pick(&FOREIGN)),
        4 => format!("{} {text}", dice.pick(&NUMBER_WORDS)),
        5 => text.replace(' ', "-"),
        6 => format!("{} {}", text, dice.between(1, 120)),
        _ => text,
    }
}

fn description(dice: &mut Dice, vocabulary: &Vocabulary, words: usize) -> String {
    let mut text = String::new();
    for number in 0..words {
        let word = match dice.below(60) {
            0 => (*dice.pick(&FOREIGN)).to_owned(),
            1 => (*dice.pick(&NUMBER_WORDS)).to_owned(),
            2 => (*dice.pick(&BRANDS)).to_owned(),
            _ => vocabulary.word(dice).to_owned(),
        };
        if number > 0 {
            let separator = dice.pick(&[" ", " ", " ", " ", " ", " ", ", ", ". ", " - ", "\n"]);
            text.push_str(separator);
        }
        text.push_str(&word);
    }
    text
}

fn capitalised(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    });
    words.collect::<Vec<String>>().join(" ")
}
