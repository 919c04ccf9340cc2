//! How long Miroir holds a body between receiving it and sending it on: 10,000 documents into 64 shards.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use miroir_core::documents::{ContentRules, DocumentBatch, Format};
use miroir_core::shard::ShardId;
use serde_json::{Value, json};

const DOCUMENTS: usize = 10_000;
const SHARDS: u16 = 64;

/// Documents of about 400 bytes, with the shapes documents have: text, numbers, a list, an object.
fn body() -> Bytes {
    let documents: Vec<Value> = (0..DOCUMENTS)
        .map(|number| {
            json!({
                "id": number,
                "title": format!("The {number}th title of a long series"),
                "overview": "A few words, \"some quoted\", repeated to make up a text of a plausible length. ".repeat(3),
                "genres": ["drama", "comedy", "mystery"],
                "price": number as f64 / 7.0,
                "maker": { "name": "someone", "country": "somewhere" },
            })
        })
        .collect();
    Bytes::from(serde_json::to_vec(&documents).unwrap_or_default())
}

fn split(criterion: &mut Criterion) {
    let body = body();
    let rules = ContentRules::default();
    let mut group = criterion.benchmark_group("split");
    group.throughput(Throughput::Bytes(body.len() as u64));
    let parse = || DocumentBatch::parse(body.clone(), Format::Json);
    let identify = || {
        let mut batch = parse()?;
        batch.identify("id", SHARDS, &rules)?;
        batch.assign_positions(1, |_| None);
        Ok::<_, miroir_core::error::ApiError>(batch)
    };
    group.bench_function("parse", |bencher| bencher.iter(|| black_box(parse())));
    group.bench_function("parse_and_identify", |bencher| bencher.iter(|| black_box(identify())));
    group.bench_function("whole", |bencher| {
        bencher.iter(|| {
            let sent = identify().map(|batch| batch.chunks(|_| true).map(|chunk| chunk.len()).sum::<usize>());
            black_box(sent)
        });
    });
    // What each of 3 nodes that share the shards costs on top.
    let third = |shard: ShardId| shard.0.is_multiple_of(3);
    let identified = identify();
    group.bench_function("chunks_of_a_third", |bencher| {
        bencher.iter(|| {
            let sent =
                identified.as_ref().map(|batch| batch.chunks(third).map(|chunk| chunk.len()).sum::<usize>());
            black_box(sent.ok())
        });
    });
    group.finish();
}

criterion_group!(benches, split);
criterion_main!(benches);
