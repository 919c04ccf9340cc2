//! The heart of the tests: Miroir over real nodes answers as one real Meilisearch does.

use miroir_testkit::cluster::Shape;
use miroir_testkit::corpus::{catalogue, movies};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;

/// Another seed is another test; this one is fixed so that a failure can be repeated.
const SEED: u64 = 11;
const DOCUMENTS: usize = 1_500;
const REQUESTS: usize = 400;

/// Compares both profiles on generated documents, and the default one on real ones.
async fn assert_faithful(oracle: &Oracle, what: &str) {
    let (generated, real) = (catalogue(SEED, DOCUMENTS), movies());
    for (corpus, profile) in
        [(&generated, Profile::Default), (&generated, Profile::Explicit), (&real, Profile::Default)]
    {
        let index = format!("{}-{}", corpus.name, profile.label());
        oracle.load_and_change(&index, corpus, profile).await;
        let documents = oracle.compare_documents(&index).await;
        assert!(documents.is_empty(), "{what}: the documents of {index} differ:\n{documents}");
        let tally = oracle.compare_generated(&index, corpus, SEED, REQUESTS).await;
        tally.assert_telling();
        tally.assert_faithful(&format!("{what}, {index}"));
    }
}

async fn assert_faithful_shape(nodes: usize, replication_factor: usize, replica_groups: usize, shards: u16) {
    let shape = Shape { nodes, replication_factor, replica_groups, shards };
    let oracle = Oracle::start(shape).await;
    assert_faithful(&oracle, &shape.label()).await;
}

/// The test of the test: whatever differs here is the fault of the corpus, the requests or the comparison.
#[tokio::test]
async fn one_meilisearch_answers_as_another() {
    let oracle = Oracle::against_itself().await;
    assert_faithful(&oracle, "against itself").await;
}

#[tokio::test]
async fn one_node() {
    assert_faithful_shape(1, 1, 1, 7).await;
}

#[tokio::test]
async fn three_nodes() {
    assert_faithful_shape(3, 1, 1, 7).await;
}

#[tokio::test]
async fn three_nodes_with_two_copies() {
    assert_faithful_shape(3, 2, 1, 7).await;
}

#[tokio::test]
async fn three_nodes_in_two_groups() {
    assert_faithful_shape(3, 1, 2, 8).await;
}

#[tokio::test]
async fn five_nodes() {
    assert_faithful_shape(5, 1, 1, 12).await;
}

#[tokio::test]
async fn five_nodes_in_two_groups_with_two_copies() {
    assert_faithful_shape(5, 2, 2, 12).await;
}
