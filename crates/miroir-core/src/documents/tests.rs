//! The life of a batch, from a body to chunks.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::hidden;

const SHARDS: u16 = 8;

fn batch(body: &str, format: Format) -> DocumentBatch {
    DocumentBatch::parse(Bytes::copy_from_slice(body.as_bytes()), format).unwrap()
}

fn identified(body: &str, rules: &ContentRules) -> DocumentBatch {
    let mut batch = batch(body, Format::Json);
    batch.identify("id", SHARDS, rules).unwrap();
    batch
}

fn documents_of(chunk: &[u8]) -> Vec<Map<String, Value>> {
    serde_json::Deserializer::from_slice(chunk).into_iter().collect::<Result<_, _>>().unwrap()
}

/// The documents of all chunks, in order.
fn sent(batch: &DocumentBatch) -> Vec<Map<String, Value>> {
    batch.chunks(|_| true).flat_map(|chunk| documents_of(&chunk)).collect()
}

/// Chunks end to end.
fn joined(chunks: impl Iterator<Item = Bytes>) -> Vec<u8> {
    chunks.flatten().collect()
}

#[test]
fn an_empty_body_is_a_missing_payload() {
    for (format, message) in [
        (Format::Json, "A json payload is missing."),
        (Format::Ndjson, "A ndjson payload is missing."),
        (Format::Csv { delimiter: b',' }, "A csv payload is missing."),
    ] {
        let error = DocumentBatch::parse(Bytes::new(), format).unwrap_err();
        assert_eq!((error.code.as_ref(), error.message.as_str()), ("missing_payload", message));
    }
}

#[test]
fn hidden_fields_come_first_and_the_rest_is_untouched() {
    let mut batch = identified("[{ \"id\" : 1,\n \"n\": 1.50e2 }]", &ContentRules::default());
    assert_eq!(batch.assign_positions(0x12, |_| None), 0x14);
    let chunks: Vec<Bytes> = batch.chunks(|_| true).collect();
    let shard = shard_of("1", SHARDS);
    let expected = format!(
        "{{\"_miroir_shard\":\"{}\",\"_miroir_inserted_at\":\"!!!!!!!!!!!!!!%(\",\
         \"_miroir_updated_at\":\"!!!!!!!!!!!!!!%'\", \"id\" : 1,\n \"n\": 1.50e2 }}\n",
        hidden::encode_shard(shard)
    );
    assert_eq!(chunks, [Bytes::from(expected)]);
}

#[test]
fn the_same_id_written_differently_is_one_document() {
    let body = r#"[{"id":1,"v":1},{"id":"a"},{"id":"1","v":2},{"id":"\u0061"}]"#;
    let mut batch = identified(body, &ContentRules::default());
    assert_eq!(batch.received(), 4);
    assert_eq!(batch.distinct_ids().collect::<Vec<_>>(), ["1", "a"]);
    assert_eq!(batch.distinct_len(), 2);
    assert_eq!(batch.assign_positions(5, |_| None), 8);
    // Replacing: the last version alone is sent, at the place of the first.
    let replaced = sent(&batch);
    assert_eq!(replaced.len(), 2);
    assert_eq!((&replaced[0]["id"], &replaced[0]["v"]), (&json!("1"), &json!(2)));
    assert_eq!(replaced[0][hidden::INSERTED_AT_FIELD], hidden::encode_position(6));
    assert!(replaced.iter().all(|document| document[hidden::UPDATED_AT_FIELD] == hidden::encode_position(5)));
    // Updating: all versions are sent, in order.
    let rules = ContentRules { method: WriteMethod::Update, ..ContentRules::default() };
    let updated = sent(&identified(body, &rules));
    let versions: Vec<&Value> = updated.iter().filter_map(|document| document.get("v")).collect();
    assert_eq!(versions, [&json!(1), &json!(2)]);
}

#[test]
fn known_documents_keep_their_position() {
    let mut batch = identified(r#"[{"id":"new"},{"id":"old"},{"id":"newer"}]"#, &ContentRules::default());
    assert_eq!(batch.assign_positions(100, |id| (id == "old").then_some(3)), 103);
    let positions: BTreeMap<String, Option<u64>> = sent(&batch)
        .into_iter()
        .map(|document| {
            let position = document[hidden::INSERTED_AT_FIELD].as_str().and_then(hidden::decode);
            (document["id"].as_str().unwrap().to_owned(), position)
        })
        .collect();
    let expected = [("new", 101), ("newer", 102), ("old", 3)];
    assert_eq!(positions, expected.into_iter().map(|(id, at)| (id.to_owned(), Some(at))).collect());
}

#[test]
fn a_key_written_twice_counts_once_in_json_and_twice_in_ndjson() {
    let body = r#"{"id":1,"v":1,"id":2}"#;
    let batch = identified(&format!("[{body}]"), &ContentRules::default());
    assert_eq!(batch.distinct_ids().collect::<Vec<_>>(), ["2"]);
    let chunk = batch.chunks(|_| true).next().unwrap();
    assert_eq!(std::str::from_utf8(&chunk).unwrap().matches("\"id\"").count(), 1);
    let mut ndjson = super::tests::batch(body, Format::Ndjson);
    let error = ndjson.identify("id", SHARDS, &ContentRules::default()).unwrap_err();
    assert_eq!(error.code, "invalid_document_id");
}

#[test]
fn ids_are_judged_before_contents_and_superseded_contents_are_not() {
    let rules = ContentRules { index_uid: "x".into(), geo: true, ..ContentRules::default() };
    let identify = |body: &str, rules: &ContentRules| {
        let mut batch = batch(body, Format::Json);
        batch.identify("id", SHARDS, rules).map_err(|error| error.code.to_string())
    };
    let refused = |code: &str| Err(code.to_owned());
    assert_eq!(identify(r#"[{"id":1,"_geo":1},{"id":"a b"}]"#, &rules), refused("invalid_document_id"));
    assert_eq!(identify(r#"[{"id":1,"t":"\ud800"},{"x":1}]"#, &rules), refused("missing_document_id"));
    assert_eq!(identify(r#"[{"id":1,"t":"\ud800"}]"#, &rules), refused("internal"));
    assert_eq!(identify(r#"[{"id":1,"_geo":1},{"id":1,"_geo":null}]"#, &rules), Ok(()));
    assert_eq!(identify(r#"[{"id":1,"t":"\ud800"},{"id":1}]"#, &rules), Ok(()));
    let updating = ContentRules { method: WriteMethod::Update, ..rules };
    assert_eq!(identify(r#"[{"id":1,"_geo":1},{"id":1}]"#, &updating), refused("invalid_document_geo_field"));
}

#[test]
fn a_reserved_name_is_refused_in_terms_of_what_to_do() {
    let field = batch(r#"[{"id":1},{"_miroir_x":1}]"#, Format::Json).reserved_field().unwrap();
    assert_eq!(field, ReservedField { document: 1, name: "_miroir_x".into() });
    let error = ApiError::from(field);
    assert_eq!((error.status, error.code.as_ref()), (400, "miroir_reserved_field"));
}

#[test]
fn new_documents_need_vectors_that_nothing_else_gives() {
    let embedder = EmbedderRule { name: "m".into(), dimensions: Some(1), user_provided: true };
    let mut rules =
        ContentRules { index_uid: "x".into(), embedders: vec![embedder], ..ContentRules::default() };
    let body = r#"[{"id":1,"_vectors":{"m":[1]}},{"id":1},{"id":2},{"id":3},{"id":4,"_vectors":{"m":null}}]"#;
    let message = |rules: &ContentRules, old: &[&str]| {
        let batch = identified(body, rules);
        batch.check_required_vectors(rules, |id| !old.contains(&id)).map_err(|error| error.message)
    };
    let error = message(&rules, &[]).unwrap_err();
    assert!(
        error.contains("no vectors provided for document `1` and at least 2 other document(s)\n"),
        "{error}"
    );
    assert_eq!(message(&rules, &["1", "2", "3"]), Ok(()));
    rules.method = WriteMethod::Update;
    let error = message(&rules, &["3"]).unwrap_err();
    assert!(error.contains("no vectors provided for document `2`\n"), "{error}");
    rules.embedders[0].user_provided = false;
    assert_eq!(message(&rules, &[]), Ok(()));
}

#[test]
fn chunks_are_bounded_and_only_of_the_shards_wanted() {
    let filler = "x".repeat(100_000);
    let documents: Vec<Value> = (0..20).map(|id| json!({"id": id, "t": filler})).collect();
    let batch = identified(&serde_json::to_string(&documents).unwrap(), &ContentRules::default());
    let wanted = batch.shards()[0];
    let chunks: Vec<Bytes> = batch.chunks(|shard| shard == wanted).collect();
    assert!(chunks.iter().all(|chunk| chunk.len() <= 256 * 1024), "a chunk is too long");
    let ids = chunks.iter().flat_map(|chunk| documents_of(chunk)).map(|document| document["id"].clone());
    let expected = (0..20).filter(|id: &u32| shard_of(&id.to_string(), SHARDS) == wanted).map(Value::from);
    assert_eq!(ids.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    // Those that fit share a chunk, whatever their shards: 2 of 100 KB in 256 KB.
    assert_eq!(batch.chunks(|_| true).count(), 10);
}

#[test]
fn chunks_outlive_the_batch_on_another_thread() {
    let batch = identified(r#"[{"id":1},{"id":2}]"#, &ContentRules::default());
    let chunks = batch.chunks(|_| true);
    drop(batch);
    assert!(std::thread::spawn(move || chunks.count()).join().unwrap() >= 1);
}

#[test]
fn reading_back_is_not_misled_by_what_documents_hold() {
    // Fields named as hidden ones are refused at the top only, and line ends between tokens are the client's.
    let forged = format!("\n{{\"_miroir_shard\":\"{}\"}}\n", hidden::encode_shard(ShardId(SHARDS)));
    let body = format!("[{{\"id\":1,\"t\":{forged}}},{{\"id\":2,\"t\":[{forged},{forged}]}}]");
    let batch = identified(&body, &ContentRules::default());
    let stamped = StampedDocuments::parse(joined(batch.chunks(|_| true)).into()).unwrap();
    assert_eq!(stamped.shards(), batch.shards());
    let shard = shard_of("2", SHARDS);
    assert_ne!(shard, shard_of("1", SHARDS));
    assert_eq!(
        joined(stamped.chunks(|wanted| wanted == shard)),
        joined(batch.chunks(|wanted| wanted == shard))
    );
}

#[test]
fn what_was_not_stamped_is_not_read_back() {
    let batch = identified(r#"[{"id":1},{"id":2}]"#, &ContentRules::default());
    let whole = joined(batch.chunks(|_| true));
    assert!(StampedDocuments::parse(Bytes::copy_from_slice(&whole)).is_some());
    for length in [1, whole.len() / 2 + 1, whole.len() - 1] {
        assert!(StampedDocuments::parse(Bytes::copy_from_slice(&whole[..length])).is_none(), "{length}");
    }
    for other in ["{\"id\":1}\n", "{\"_miroir_shard\":\"x\"}\n", "{\"_miroir_shard\":\"!%!!!!\"}\n"] {
        assert!(StampedDocuments::parse(Bytes::from(other)).is_none(), "{other}");
    }
}

/// Any document, with an id among a few so that some are written twice.
fn documents() -> impl Strategy<Value = Vec<Map<String, Value>>> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = scalar.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    let document = (0..40u32, prop::collection::btree_map("[a-hj-z\"{}\\\\ é]{0,6}", value, 0..5));
    prop::collection::vec(
        document.prop_map(|(id, fields)| {
            let mut document: Map<String, Value> = fields.into_iter().collect();
            document.insert("id".into(), json!(id));
            document
        }),
        0..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn splitting_then_joining_gives_the_documents_back(documents in documents(), pretty: bool, ndjson: bool) {
        let write = |value: &Value| if pretty {
            serde_json::to_string_pretty(value).unwrap()
        } else {
            value.to_string()
        };
        let values: Vec<Value> = documents.iter().cloned().map(Value::Object).collect();
        let (body, format) = if ndjson {
            let lines: Vec<String> = values.iter().map(write).collect();
            (format!("{}\n", lines.join("\n")), Format::Ndjson)
        } else {
            (write(&Value::Array(values)), Format::Json)
        };
        let mut batch = DocumentBatch::parse(Bytes::from(body), format).unwrap();
        let rules = ContentRules { method: WriteMethod::Update, ..ContentRules::default() };
        batch.identify("id", SHARDS, &rules).unwrap();
        let next_free = batch.assign_positions(1_000, |_| None);
        prop_assert_eq!(batch.received(), documents.len());

        let mut without_stamps = Vec::new();
        let mut positions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut seen_shards = BTreeSet::new();
        for mut document in sent(&batch) {
            let id = document["id"].to_string();
            let shard = shard_of(&id, SHARDS);
            let stored_shard = document.shift_remove(hidden::SHARD_FIELD).unwrap();
            prop_assert_eq!(stored_shard, hidden::encode_shard(shard));
            let position = document.shift_remove(hidden::INSERTED_AT_FIELD).unwrap();
            positions.entry(id.clone()).or_default().insert(position.as_str().unwrap().to_owned());
            let write = document.shift_remove(hidden::UPDATED_AT_FIELD).unwrap();
            prop_assert_eq!(write, hidden::encode_position(1_000));
            without_stamps.push(document);
            seen_shards.insert(shard);
        }
        let mut first_appearances = Vec::new();
        for id in documents.iter().map(|document| document["id"].to_string()) {
            if !first_appearances.contains(&id) {
                first_appearances.push(id);
            }
        }
        prop_assert_eq!(without_stamps, documents);
        prop_assert_eq!(batch.shards(), seen_shards.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(batch.distinct_ids().collect::<Vec<_>>(), first_appearances.clone());
        for (rank, id) in first_appearances.iter().enumerate() {
            let expected = hidden::encode_position(1_001 + rank as u64);
            prop_assert_eq!(&positions[id], &BTreeSet::from([expected]));
        }
        let numbers = first_appearances.len() as u64 + u64::from(!first_appearances.is_empty());
        prop_assert_eq!(next_free, 1_000 + numbers);
    }

    #[test]
    fn what_is_sent_reads_back_as_it_was(
        documents in documents(), pretty: bool, updating: bool, wanted: [bool; SHARDS as usize]
    ) {
        let values = Value::Array(documents.iter().cloned().map(Value::Object).collect());
        let body = if pretty { format!("{values:#}") } else { values.to_string() };
        let method = if updating { WriteMethod::Update } else { WriteMethod::Replace };
        let mut batch = identified(&body, &ContentRules { method, ..ContentRules::default() });
        batch.assign_positions(7, |_| None);
        let is_wanted = |shard: ShardId| wanted[usize::from(shard.0)];

        let stamped = StampedDocuments::parse(joined(batch.chunks(|_| true)).into()).unwrap();
        prop_assert_eq!(stamped.shards(), batch.shards());
        let to_one_node = joined(batch.chunks(is_wanted));
        prop_assert_eq!(&joined(stamped.chunks(is_wanted)), &to_one_node);

        // A node gets the last version of each document that is its own, in the order of the first ones.
        let mut expected: Vec<Map<String, Value>> = Vec::new();
        for document in documents {
            if !is_wanted(shard_of(&document["id"].to_string(), SHARDS)) {
                continue;
            }
            match expected.iter_mut().find(|known| !updating && known["id"] == document["id"]) {
                Some(known) => *known = document,
                None => expected.push(document),
            }
        }
        let mut sent = documents_of(&to_one_node);
        sent.iter_mut().for_each(|document| document.retain(|name, _| !hidden::is_reserved(name)));
        prop_assert_eq!(sent, expected);
    }
}
