//! The rules that a run can have: each does what it says, and every replica follows it.

mod common;

use common::{directory, number, run_by_hand};
use serde_json::Value;

fn digest(rules: &str, learn: &str) -> String {
    let (_guard, here) = directory();
    let rules = format!("--rounds 6 {rules}");
    common::text(&run_by_hand(&here, 2, &rules, learn).event("finished")["digest"])
}

fn rounds(rules: &str) -> Vec<Value> {
    let (_guard, here) = directory();
    let ended = run_by_hand(&here, 2, rules, "");
    ended.events().filter(|event| event["event"] == "committed").collect()
}

#[test]
fn every_tie_policy_decides_ties_in_its_own_way() {
    let mut digests = Vec::new();
    for policy in ["coin", "hold", "positive"] {
        let (_guard, here) = directory();
        // Two voters: wherever they differ there is a tie.
        let ended = run_by_hand(&here, 2, &format!("--rounds 6 --tie {policy}"), "");
        for round in ended.events().filter(|event| event["event"] == "committed") {
            let (ties, holds) = (number(&round["ties"]), number(&round["holds"]));
            assert!(ties > 1000.0, "{policy}: {round}");
            assert_eq!(policy == "hold", holds >= ties, "{policy}: {round}");
        }
        digests.push(common::text(&ended.event("finished")["digest"]));
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 3, "each policy makes another model");
}

#[test]
fn every_schedule_warms_up_and_goes_its_way() {
    // η of rounds 0 to 7, in units of the base; the warm-up takes four.
    let cases: [(&str, [f64; 8]); 4] = [
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("step --step-every 3 --step-factor 0.5", [0.25, 0.5, 0.75, 1.0, 0.5, 0.5, 0.25, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, 0.853_553, 0.5, 0.146_447]),
        ("one-cycle", [0.04, 0.180_589, 0.52, 0.859_411, 1.0, 0.75, 0.25, 4e-6]),
    ];
    for (schedule, expected) in cases {
        let rounds = rounds(&format!("--rounds 8 --warmup 4 --eta 0.002 --schedule {schedule}"));
        let etas: Vec<_> = rounds.iter().map(|round| number(&round["eta"]) / 0.002).collect();
        assert_eq!(etas.len(), 8);
        for (eta, expected) in etas.iter().zip(expected) {
            assert!((eta - expected).abs() < 1e-5, "{schedule}: {etas:?}");
        }
    }
}

#[test]
fn momentum_decay_and_partition_each_change_the_model() {
    let mut digests = vec![digest("", "")];
    for rules in ["--beta 0", "--weight-decay 0.1", "--partition by-label", "--batch 8", "--min-voters 2"] {
        digests.push(digest(rules, ""));
    }
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn what_is_made_of_gradients_and_verdicts_changes_the_model() {
    let mut digests = vec![digest("", ""), digest("--weight-decay 0.1", "")];
    for rules in [
        "--form lion",
        "--form feedback",
        "--form feedback-0.1",
        "--form feedback --vote-momentum 0.9",
        "--beta 0 --vote-momentum 0.9 --vote-feedback",
        "--label-smoothing 0.1",
        "--clip-norm 0.5",
        "--weight-decay 0.1 --decay-on matrices",
        "--layerwise --eta 0.02",
    ] {
        digests.push(digest(rules, ""));
    }
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
    // A limit that no gradient reaches.
    assert_eq!(digest("--clip-norm 1e9", ""), digest("", ""));
}

#[test]
fn nobody_abstains_with_feedback_so_that_a_vote_is_one_bit() {
    let (_guard, here) = directory();
    let flags = "--workers 5 --batch 64 --epochs 1 --quiet --partition by-label";
    let bits = |result: &Value| number(&result["bytes_up_per_round"]) * 8.0 / common::DIMENSION as f64;
    let result = common::train(&here, &format!("{flags} --beta 0"));
    assert!(bits(&result) > 1.02, "black pixels have no gradient: {}", bits(&result));
    let result = common::train(&here, &format!("{flags} --form feedback-0.02 --vote-momentum 0.9"));
    assert!((1.0..1.01).contains(&bits(&result)), "{}", bits(&result));
}

#[test]
fn chunks_and_digests_change_nothing_but_the_traffic() {
    let plain = digest("", "");
    assert_eq!(digest("--chunk 64 --digest-every 1", ""), plain);
    assert_eq!(digest("--chunk 4096 --digest-every 0", "--threads 2"), plain);
}

#[test]
fn a_zero_gradient_abstains_where_it_is_told_to() {
    // A hidden unit that is dead for a whole batch gives its weights a gradient of exactly 0.
    let holds = |rules: &str| rounds(rules).iter().map(|round| number(&round["holds"])).sum::<f64>();
    let (momentum, gradient) = (holds("--rounds 8"), holds("--rounds 8 --abstain-on gradient"));
    assert!(gradient > momentum, "{gradient} coordinates held, {momentum} if only momentum counts");
}

#[test]
fn a_convolutional_network_trains() {
    let (_guard, here) = directory();
    let ended = run_by_hand(&here, 2, "--rounds 3 --batch 4", "--model cnn");
    assert_eq!(ended.event("finished")["round"], 3);
    let evaluation = common::run(&here, "eval run --json").succeeded().json();
    assert_eq!(evaluation["model"], "cnn");
    assert_eq!(evaluation["rounds"], 3);
}
