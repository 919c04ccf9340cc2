//! Time to place an index, to adapt its placement to one node more, and to list the covers of a search.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use miroir_core::cover::minimal_covers;
use miroir_core::placement::{place, rebalance};

/// (nodes, shards, replication factor): the demo's cluster, a usual one, a large one.
const SIZES: [(usize, u16, usize); 3] = [(3, 64, 2), (8, 256, 2), (20, 1024, 3)];

fn placement_and_cover(criterion: &mut Criterion) {
    for (node_count, shards, replication_factor) in SIZES {
        let ids: Vec<String> = (0..=node_count).map(|number| format!("meili-{number}")).collect();
        let one_more: Vec<&str> = ids.iter().map(String::as_str).collect();
        let nodes = &one_more[..node_count];
        let name = format!("{node_count} nodes, {shards} shards, {replication_factor} copies");
        let placement = place("movies", shards, nodes, replication_factor);
        let group_of = vec![0; node_count];

        criterion.bench_function(&format!("place: {name}"), |bencher| {
            bencher.iter(|| place(black_box("movies"), shards, nodes, replication_factor));
        });
        criterion.bench_function(&format!("add a node: {name}"), |bencher| {
            bencher.iter(|| rebalance("movies", black_box(&placement), &one_more, replication_factor));
        });
        criterion.bench_function(&format!("list covers: {name}"), |bencher| {
            bencher.iter(|| minimal_covers(black_box(&placement), &placement, &group_of, 64));
        });
    }
}

criterion_group!(benches, placement_and_cover);
criterion_main!(benches);
