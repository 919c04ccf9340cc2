//! What a search costs in Miroir itself: merging the answers of three nodes, and stripping one node's answer.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use miroir_core::hidden::{encode_position, encode_shard};
use miroir_core::search::{Depth, SearchPlan, SearchSettings};
use miroir_core::shard::ShardId;

/// A hit of about 500 bytes of document, with hidden fields and, in a scatter, with details.
fn hit(position: usize, with_details: bool) -> String {
    let text = "the quick brown fox jumps over the lazy dog and ".repeat(6);
    let (shard, at) = (encode_shard(ShardId((position % 64) as u16)), encode_position(position as u64));
    let document = format!(
        r#"{{"id":{position},"title":"Film {position}","overview":"{text}","genres":["Drama","Comedy"],"released":846806400,"poster":"https://images.example.com/w500/{position}.jpg","_miroir_shard":"{shard}","_miroir_inserted_at":"{at}""#
    );
    if !with_details {
        return format!("{document}}}");
    }
    let (words, typos) = (3 - position / 1500, (position / 300) % 5);
    let proximity = 1.0 - (position % 300) as f64 / 301.0;
    let details = format!(
        r#"{{"words":{{"order":0,"matchingWords":{words},"maxMatchingWords":3,"score":1.0}},"typo":{{"order":1,"typoCount":{typos},"maxTypoCount":4,"score":0.5}},"proximity":{{"order":2,"score":{proximity}}},"attribute":{{"order":3,"attributeRankingOrderScore":1.0,"queryWordDistanceScore":0.9,"score":0.9}},"exactness":{{"order":4,"matchType":"noExactMatch","matchingWords":1,"maxMatchingWords":3,"score":0.25}},"_miroir_inserted_at:asc":{{"order":5,"value":"{at}"}}}}"#
    );
    format!(r#"{document},"_rankingScoreDetails":{details}}}"#)
}

fn answer(positions: impl Iterator<Item = usize>, with_details: bool) -> Vec<u8> {
    let hits: Vec<String> = positions.map(|position| hit(position, with_details)).collect();
    let hits = hits.join(",");
    format!(r#"{{"hits":[{hits}],"query":"fox","processingTimeMs":3,"limit":1000,"offset":0,"estimatedTotalHits":1000}}"#)
        .into_bytes()
}

fn bench(criterion: &mut Criterion) {
    let settings = SearchSettings::default();
    let plan = |body: &str| match SearchPlan::new(body.as_bytes(), &settings) {
        Ok(plan) => plan,
        Err(error) => unreachable!("the bench's own body is planned: {error}"),
    };

    let nodes = |hits: usize| -> Vec<Vec<Bytes>> {
        (0..3)
            .map(|node| vec![Bytes::from(answer((0..3 * hits).filter(|at| at % 3 == node), true))])
            .collect()
    };
    let deep = plan(r#"{"q":"fox","limit":1000}"#);
    let thousand = nodes(1000);
    criterion.bench_function("merge_3x1000", |bencher| {
        bencher.iter(|| deep.merge(black_box(&thousand), 3));
    });
    let page = plan(r#"{"q":"fox"}"#);
    let twenty = nodes(20);
    criterion.bench_function("merge_3x20", |bencher| bencher.iter(|| page.merge(black_box(&twenty), 3)));
    let alone = answer(0..20, false);
    criterion.bench_function("alone_20", |bencher| bencher.iter(|| page.finish_alone(black_box(&alone))));
    criterion.bench_function("plan_and_bodies", |bencher| {
        bencher.iter(|| {
            plan(black_box(r#"{"q":"fox","limit":20,"filter":"a = 1"}"#))
                .bodies(Some("s IN [1]"), Depth::Whole)
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
