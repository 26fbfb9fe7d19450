//! Rules against FIELD's golden vector, against plain formulas, and past their bounds.

use proptest::prelude::*;

use super::*;

/// What the library ByzFL 0.0.11 says of these, with f = 1.
const GOLDEN: [&[f32]; 5] =
    [&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], &[7.0, 8.0, 9.0], &[2.0, -1.0, 0.0], &[100.0, -100.0, 50.0]];

fn of(rule: &str, gradients: &[&[f32]], f: usize) -> Vec<f32> {
    let mut out = vec![0.0; gradients[0].len()];
    rule.parse::<Rule>().unwrap().aggregate(gradients, f, &mut out).unwrap();
    out
}

fn close(found: &[f32], expected: &[f32]) -> bool {
    found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0))
}

#[test]
fn the_golden_vector() {
    for (rule, expected) in [
        ("median", [4.0, 2.0, 6.0]),
        ("trimmed-mean", [13.0 / 3.0, 2.0, 6.0]),
        ("geometric-median", [3.200306, 1.975903, 3.972276]),
        ("krum-byzfl", [4.0, 5.0, 6.0]),
        ("multi-krum-byzfl", [3.5, 3.5, 4.5]),
        ("mda", [3.5, 3.5, 4.5]),
        ("meamed", [3.5, 3.5, 4.5]),
        ("centred-clipping-10", [3.738475, 1.0154, 3.758991]),
    ] {
        let found = of(rule, &GOLDEN, 1);
        assert!(close(&found, &expected), "{rule}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn a_rule_refuses_more_liars_than_it_stands_and_says_how_many_that_are() {
    for (rule, n, most) in [
        ("median", 7, 3),
        ("trimmed-mean", 8, 3),
        ("krum", 7, 2),
        ("krum-byzfl", 7, 3),
        ("multi-krum", 15, 6),
        ("bulyan", 15, 3),
        ("mda", 15, 7),
        ("caf", 15, 7),
    ] {
        let rule: Rule = rule.parse().unwrap();
        assert!(rule.check(n, most).is_ok(), "{rule}");
        let error = rule.check(n, most + 1).unwrap_err().to_string();
        assert!(error.contains(&format!("at most {most}")) && error.contains(&rule.to_string()), "{error}");
    }
    // A baseline takes whatever comes.
    assert!(Rule::Mean.check(7, 5).is_ok());
    let error = Rule::Mda.check(40, 19).unwrap_err().to_string();
    assert!(error.contains("1000000 subsets"), "{error}");
    assert!(Rule::Mean.check(0, 0).is_err());
    let mut out = [0.0; 3];
    assert!(Rule::Mean.aggregate(&[&[1.0, 2.0]], 0, &mut out).is_err());
}

#[test]
fn bulyan_is_the_mean_around_the_median_of_what_krum_selects() {
    // n = 7, f = 1: Krum selects 5, of which the 3 nearest to the median count. The liar is never selected.
    let values: [&[f32]; 7] = [&[1.0], &[2.0], &[3.0], &[4.0], &[5.0], &[6.0], &[1000.0]];
    let found = of("bulyan", &values, 1);
    // Scores by the 4 nearest, of 7: 3 and 4 tie at 10 and the first is taken; and so on from the middle: 3, 4, 2, 5, 1.
    assert!(close(&found, &[3.0]), "{found:?}");
}

#[test]
fn mixing_and_buckets_are_means() {
    let values: [&[f32]; 4] = [&[0.0], &[1.0], &[2.0], &[50.0]];
    let mixed = distances::nearest_neighbour_mixing(&values, 1);
    assert_eq!(mixed, [[1.0], [1.0], [1.0], [53.0 / 3.0]]);
    assert_eq!(distances::bucketed(&values, &[3, 0, 2, 1], 3), [[52.0 / 3.0], [1.0]]);
    let mut order = distances::permutation(20, (1, 2));
    assert_ne!(order, distances::permutation(20, (1, 3)));
    order.sort_unstable();
    assert_eq!(order, Vec::from_iter(0..20));
    let before: Before = "bucketing-2".parse().unwrap();
    let mut out = [0.0];
    Rule::Median.aggregate_after(before, (1, 1), &values, 0, &mut out).unwrap();
    assert!(out[0] > 0.0);
    assert!(
        Rule::Median.aggregate_after(before, (1, 1), &values, 1, &mut out).is_err(),
        "of two buckets none may lie"
    );
}

#[test]
fn nothing_makes_a_rule_panic_and_few_liars_move_a_robust_one_to_infinity() {
    let honest: [&[f32]; 7] =
        [&[1.0, 2.0], &[1.1, 2.1], &[0.9, 1.9], &[1.0, 2.2], &[1.2, 2.0], &[0.8, 1.8], &[1.0, 1.0]];
    for lie in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let liar = [lie; 2];
        let mut sent = honest.to_vec();
        sent[0] = &liar;
        for rule in [
            "median",
            "trimmed-mean",
            "krum",
            "multi-krum",
            "bulyan",
            "geometric-median",
            "centred-clipping",
            "mda",
            "meamed",
        ] {
            let found = of(rule, &sent, 1);
            assert!(found.iter().all(|value| value.abs() < 10.0), "{rule}, {lie}: {found:?}");
        }
        of("caf", &sent, 1);
        of("mean", &sent, 1);
    }
}

#[test]
fn the_filter_finds_who_spreads_the_cloud() {
    let values: [&[f32]; 6] =
        [&[0.0, 0.1], &[0.1, 0.0], &[-0.1, 0.0], &[0.0, -0.1], &[0.05, 0.05], &[30.0, 0.0]];
    let found = of("caf", &values, 1);
    assert!(found.iter().all(|value| value.abs() < 0.1), "{found:?}");
    assert_eq!(of("caf", &values[..1], 0), [0.0, 0.1]);
}

#[test]
fn rules_do_not_depend_on_the_number_of_threads() {
    let gradients: Vec<Vec<f32>> = (0..9_u64)
        .map(|m| (0..10_000).map(|i| (signvote_kernels::coin_word(m, i) >> 40) as f32 / 1e7 - 0.8).collect())
        .collect();
    let gradients: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
    for rule in Rule::NAMES {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| of(rule, &gradients, 1))
        };
        assert_eq!(on(1), on(4), "{rule}");
    }
}

#[test]
fn names_read_back() {
    for name in Rule::NAMES.into_iter().chain(["krum-byzfl", "multi-krum-byzfl", "centred-clipping-2.5"]) {
        assert_eq!(name.parse::<Rule>().unwrap().to_string(), name);
    }
    for name in ["nnm", "bucketing-3"] {
        assert_eq!(name.parse::<Before>().unwrap().to_string(), name);
    }
    assert!("krumm".parse::<Rule>().is_err() && "bucketing-0".parse::<Before>().is_err());
}

proptest! {
    /// Each against its definition, written down without regard to speed.
    #[test]
    fn coordinate_rules_are_their_formulas(
        values in prop::collection::vec(-100.0_f32..100.0, 3..12),
        f in 0_usize..5,
    ) {
        let f = f.min((values.len() - 1) / 2);
        let gradients: Vec<&[f32]> = values.iter().map(std::slice::from_ref).collect();
        let mut sorted: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
        let mean = |values: &[f64]| (values.iter().sum::<f64>() / values.len() as f64) as f32;
        prop_assert!(close(&of("median", &gradients, f), &[median as f32]));
        prop_assert!(close(&of("trimmed-mean", &gradients, f), &[mean(&sorted[f..n - f])]));
        let mut near = sorted.clone();
        near.sort_by(|a, b| (a - median).abs().total_cmp(&(b - median).abs()));
        // Two that are equally near may be taken either way.
        let edge = (near[n - f - 1] - median).abs();
        if n - f == n || ((near[n - f] - median).abs() - edge).abs() > 1e-4 {
            prop_assert!(close(&of("meamed", &gradients, f), &[mean(&near[..n - f])]));
        }
    }
}
