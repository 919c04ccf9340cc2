//! A short torture: two to three minutes of trouble with a fixed seed. `./scripts/torture` does more of the same.

use miroir_testkit::torture::{Options, run};

const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_while_nodes_and_miroir_are_injured() {
    println!("seed {SEED}");
    let outcome = run(Options::short(SEED)).await;
    println!("{}", outcome.text);
    assert!(
        outcome.kept,
        "promises were not kept (seed {SEED}; for longer: ./scripts/torture --seed {SEED}); \
         history, logs and data are in {:?}",
        outcome.kept_directories
    );
}
