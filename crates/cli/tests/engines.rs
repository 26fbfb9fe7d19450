//! The engines that this program was built with beyond its own, in a whole training: the same as by its own, but for rounding.
#![cfg(any(feature = "tch", feature = "wgpu"))]

mod common;

use common::{directory, number, run};

#[test]
fn every_engine_trains_to_the_same_loss() {
    let (_guard, here) = directory();
    let train = |engine: &str| {
        let line = format!(
            "train --json --quiet --workers 2 --epochs 1 --batch 128 --engine {engine} --run-dir {engine}"
        );
        let result = run(&here, &line).succeeded().json();
        assert_eq!(
            (&result["replicas_identical"], &result["rounds"]),
            (&true.into(), &39.into()),
            "{result}"
        );
        number(&result["test_loss"])
    };
    let own = train("burn");
    let mut others = Vec::new();
    if cfg!(feature = "tch") {
        others.push("tch");
    }
    if cfg!(feature = "wgpu") {
        others.push("wgpu");
    }
    for engine in others {
        let loss = train(engine);
        // The sign of a small gradient is decided by rounding here and there.
        assert!((loss / own - 1.0).abs() < 0.01, "{engine}: {loss} instead of {own}");
    }
}
