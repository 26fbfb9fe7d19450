//! Whole runs on the quadratic, which take no time.

use super::*;
use crate::compress::Compressor;

fn setup() -> Setup {
    Setup {
        problem: Task::Quadratic { dimension: 300 },
        workers: 9,
        batch: 1,
        rounds: 60,
        eta: 0.05,
        schedule: Course::Constant,
        momentum: 0.5,
        ..Setup::default()
    }
}

fn run_of(setup: &Setup) -> Outcome {
    run(setup, &Problem::new(setup, None).unwrap(), &mut |_, _| {}).unwrap()
}

fn last_loss(setup: &Setup) -> f64 {
    run_of(setup).last().loss.unwrap()
}

#[test]
fn a_run_is_the_same_whatever_the_number_of_threads() {
    let attacked = Setup { liars: 3, lie: "low-margin".parse().unwrap(), ..setup() };
    for setup in
        [attacked.clone(), Setup { method: Method::Camps, form: "z-sign".parse().unwrap(), ..attacked }]
    {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run_of(&setup))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(run_of(&setup).last(), run_of(&Setup { seed: 2, ..setup.clone() }).last());
    }
}

#[test]
fn the_vote_is_the_kernels_applied_to_the_honest_ballots() {
    // The election of the simulation, against Algorithm 1 of the paper written down.
    let setup = Setup { rounds: 20, weight_decay: 0.125, workers: 5, ..setup() };
    let problem = Problem::new(&setup, None).unwrap();
    let mut simulation = Simulation::new(&setup, &problem).unwrap();
    let mut x = problem.start(setup.seed);
    let mut momenta = vec![vec![0.0_f32; 300]; 5];
    let mut gradient = vec![0.0; 300];
    for round in 0..20 {
        let mut total = vec![0.0_f32; 300];
        for (index, momentum) in momenta.iter_mut().enumerate() {
            problem.compute(&setup, index).unwrap().gradient(&x, round, false, &mut gradient).unwrap();
            for ((v, g), total) in momentum.iter_mut().zip(&gradient).zip(&mut total) {
                *v = 0.5 * *v + 0.5 * g;
                *total += v.signum();
            }
        }
        // Five workers do not tie.
        x.iter_mut().zip(&total).for_each(|(x, total)| *x -= 0.05 * (total.signum() + 0.125 * *x));
        simulation.step().unwrap();
        assert_eq!(simulation.parameters(), x);
    }
    assert!(simulation.step().is_err());
}

#[test]
fn who_inverts_holds_the_vote_up_and_past_half_turns_it_round() {
    let clean = last_loss(&setup());
    let start = run_of(&setup()).curve[0].loss.unwrap();
    assert!(clean < start / 10.0, "{clean} of {start}");
    let with = |liars| last_loss(&Setup { liars, ..setup() });
    assert!(with(4) < start / 2.0);
    assert!(with(5) > start);
}

#[test]
fn camps_and_reliabilities_turn_flippers_round() {
    // At the start every gradient is large: the liars are told apart at once.
    let honest = Setup { problem: Task::Quadratic { dimension: 3000 }, ..setup() };
    let flipped = Setup { liars: 4, ..honest.clone() };
    let plain = last_loss(&flipped);
    let clean = last_loss(&honest);
    for method in [Method::Camps, Method::Weighted] {
        let loss = last_loss(&Setup { method, ..flipped.clone() });
        assert!(loss < plain / 2.0 && loss < 2.0 * clean, "{method}: {loss}, plain {plain}, clean {clean}");
    }
}

#[test]
fn without_liars_camps_are_the_plain_vote() {
    let plain = run_of(&setup());
    let camps = run_of(&Setup { method: Method::Camps, ..setup() });
    assert_eq!(plain.curve, camps.curve);
}

#[test]
fn every_lie_and_every_form_runs_under_every_kind_of_method() {
    for lie in Lie::NAMES {
        for method in ["vote", "vote-camps", "vote-weighted", "vote-feedback", "vote-momentum", "mean"] {
            let setup = Setup {
                rounds: 12,
                liars: 3,
                lie: lie.parse().unwrap(),
                method: method.parse().unwrap(),
                ..setup()
            };
            let outcome = run_of(&setup);
            // A mean is at the mercy of a NaN, and nothing else makes one.
            assert_eq!(outcome.last().loss.is_some(), (lie, method) != ("nan", "mean"), "{lie}, {method}");
        }
    }
    for form in ["signum", "lion", "sto-sign-2", "z-sign-0.5", "ternary-0.1"] {
        let setup = Setup { form: form.parse().unwrap(), ..setup() };
        assert!(last_loss(&setup) < run_of(&setup).curve[0].loss.unwrap(), "{form}");
    }
}

#[test]
fn every_compressor_descends_whether_or_not_somebody_lies() {
    let mean = Setup { method: "mean".parse().unwrap(), ..setup() };
    let start = run_of(&mean).curve[0].loss.unwrap();
    for name in Compressor::NAMES {
        let method: Method = name.parse().unwrap();
        assert_eq!((method.to_string().as_str(), method.is_vote()), (name, false));
        // In 60 rounds 3 of 300 coordinates are all sent but once.
        let part = if name == "top-k-0.01" { 1.5 } else { 5.0 };
        let outcome = run_of(&Setup { method, ..mean.clone() });
        let loss = outcome.last().loss.unwrap();
        assert!(loss < start / part, "{name}: {loss} of {start}");
        assert!(outcome.bits_up > 0 && outcome.bits_up <= 32 * 300, "{name}: {}", outcome.bits_up);
        let liars = Setup { method, liars: 2, ..mean.clone() };
        assert!(last_loss(&liars) < start, "{name}");
    }
    // A single tensor of one dimension has no factors: it is the mean.
    let whole = run_of(&Setup { method: "power-sgd-4".parse().unwrap(), ..mean.clone() });
    assert_eq!((whole.curve, whole.bits_up), (run_of(&mean).curve, 32 * 300));
    let error = "power-sgt".parse::<Method>().unwrap_err().to_string();
    assert!(error.contains("multi-krum") && error.contains("ef-sign"), "{error}");
}

#[test]
fn local_steps_move_further_in_a_round() {
    let local = Setup { local_steps: 4, local_eta: 0.05, ..setup() };
    assert!(last_loss(&local) < run_of(&local).curve[0].loss.unwrap() / 5.0);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (wrong, part) in [
        (Setup { workers: 0, ..setup() }, "workers"),
        (Setup { liars: 9, ..setup() }, "liars"),
        (Setup { momentum: 1.0, ..setup() }, "momentum"),
        (Setup { rounds: 0, ..setup() }, "rounds"),
        (Setup { eta: 0.0, ..setup() }, "learning rate"),
    ] {
        let problem = Problem::new(&wrong, None).unwrap();
        let error = Simulation::new(&wrong, &problem).err().expect("a refusal").to_string();
        assert!(error.contains(part), "{error}");
    }
    let model = Setup::default();
    assert!(Problem::new(&model, None).is_err());
}

#[test]
fn the_memory_of_ten_thousand_workers_is_known_before_it_is_taken() {
    let setup = Setup { workers: 10_000, ..setup() };
    let quadratic = setup.memory_bytes(1000);
    assert!(quadratic < 200 << 20, "{quadratic}");
    assert!(setup.memory_bytes(25_557_032) > 1 << 40);
}
