//! Claims of the papers, and what every compressor has in common.

use proptest::prelude::*;
use rand_distr::{Distribution as _, StandardNormal};

use super::*;

/// A matrix, a vector of more than two buckets, a scalar, nothing, and a convolution.
fn shapes() -> Vec<Vec<usize>> {
    vec![vec![30, 40], vec![1100], vec![], vec![0, 3], vec![8, 4, 3, 3]]
}

fn all() -> impl Iterator<Item = Compressor> {
    Compressor::NAMES.iter().map(|name| name.parse().unwrap())
}

fn normal(length: usize, index: u64) -> Vec<f32> {
    let mut random = generator(b"test of compressors ", 1, 0, index);
    (0..length).map(|_| StandardNormal.sample(&mut random)).collect()
}

fn square(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum()
}

/// A round of one worker.
fn alone(compressor: Compressor, shapes: &[Vec<usize>], gradient: &[f32]) -> (Vec<f32>, Bits) {
    let mut states = [State::new(compressor, shapes)];
    let mut out = vec![0.0; gradient.len()];
    let bits = compressor.exchange(shapes, &[gradient], &mut states, (1, 0), &mut out).unwrap();
    (out, bits)
}

#[test]
fn names_are_read_as_they_are_written() {
    for name in Compressor::NAMES {
        assert_eq!(name.parse::<Compressor>().unwrap().to_string(), name);
    }
    assert_eq!("qsgd".parse::<Compressor>().unwrap(), Compressor::Qsgd { levels: 4 });
    assert_eq!("top-k-1".parse::<Compressor>().unwrap(), Compressor::TopK { ratio: 1.0 });
    for wrong in
        ["", "qsgd-0", "qsgd-1.5", "qsgd-max-70000", "top-k-0", "top-k-1.1", "top-k-nan", "power-sgd-"]
    {
        let error = wrong.parse::<Compressor>().unwrap_err().to_string();
        assert!(error.contains("ef-sign"), "{wrong}: {error}");
    }
}

#[test]
fn lengths_are_those_that_the_documentation_has() {
    let shapes = shapes();
    let d = dimension(&shapes);
    assert_eq!(d, 1200 + 1100 + 1 + 288);
    let up = |name: &str| {
        let (_, bits) = alone(name.parse().unwrap(), &shapes, &normal(d, 0));
        bits.up
    };
    let d = d as u64;
    assert_eq!(up("fp16"), 16 * d);
    // Buckets: three of the matrix, three of the vector, one, none, one.
    assert_eq!(up("qsgd-max-4"), 4 * d + 32 * 8);
    // Of 1100, 1200, 1 and 288 the last have 3 left over, and 1 is alone.
    assert_eq!(up("terngrad"), 32 * 5 + 8 * (240 + 220 + 57) + 2 + 5);
    assert_eq!(up("ef-sign"), d + 32 * 5);
    assert_eq!(up("one-bit"), d + 64 * 5);
    // 8 × 36 in factors of rank 4, too: 176 numbers.
    assert_eq!(up("power-sgd-4"), 32 * (4 * 70 + 1101 + 4 * 44));
    // 26 values and their places: about log₂(100) + 1.5 bits each.
    let places = up("top-k-0.01") - 26 * 32 - 9 - 5;
    assert!((26 * 6..26 * 10).contains(&places), "{places}");
    // Of 512 normal coordinates some 14% are not 0.
    assert!((d / 2..3 * d / 2).contains(&up("qsgd-4")), "{}", up("qsgd-4"));
}

#[test]
fn what_goes_down_is_the_mean_or_what_it_is_made_of() {
    let shapes = [vec![100, 100]];
    let down = |name: &str| alone(name.parse().unwrap(), &shapes, &normal(10_000, 0)).1.down;
    for name in ["fp16", "qsgd-4", "terngrad", "ef-sign", "one-bit"] {
        assert_eq!(down(name), 320_000, "{name}");
    }
    assert_eq!(down("power-sgd-4"), 32 * 800);
    let few = down("top-k-0.01");
    assert!(few < 100 * 50, "{few}");
    // A code for the places of all coordinates would only add to them.
    assert_eq!(down("top-k-1"), 1 + 320_000);
}

#[test]
fn the_unbiased_are_right_on_average() {
    let shapes = [vec![5, 4]];
    let gradient = normal(20, 3);
    for compressor in all().filter(|compressor| compressor.is_unbiased()) {
        let rounds = 20_000;
        let (mut sums, mut squares) = (vec![0.0; 20], vec![0.0; 20]);
        let mut states = [State::new(compressor, &shapes)];
        let mut out = vec![0.0; 20];
        for round in 0..rounds {
            compressor.exchange(&shapes, &[&gradient], &mut states, (7, round), &mut out).unwrap();
            for ((sum, square), &out) in sums.iter_mut().zip(&mut squares).zip(&out) {
                *sum += f64::from(out);
                *square += f64::from(out).powi(2);
            }
        }
        let n = rounds as f64;
        for ((sum, square), &g) in sums.iter().zip(&squares).zip(&gradient) {
            let mean = sum / n;
            let deviation = ((square / n - mean * mean).max(0.0) / n).sqrt();
            assert!((mean - f64::from(g)).abs() < 5.0 * deviation + 1e-5, "{compressor}: {mean} of {g}");
        }
    }
}

#[test]
fn qsgd_adds_no_more_variance_than_its_paper_says() {
    // Lemma 3.1 of Alistarh et al. 2017: E‖Q(v) − v‖² ≤ min(d/s², √d/s)·‖v‖².
    let (shapes, gradient) = ([vec![512]], normal(512, 4));
    let whole = square(gradient.iter().map(|&g| f64::from(g)));
    for levels in [1, 4, 30] {
        let compressor = Compressor::Qsgd { levels };
        let mut states = [State::new(compressor, &shapes)];
        let mut out = vec![0.0; 512];
        let mut error = 0.0;
        for round in 0..200 {
            compressor.exchange(&shapes, &[&gradient], &mut states, (1, round), &mut out).unwrap();
            error += square(out.iter().zip(&gradient).map(|(o, g)| f64::from(o - g))) / 200.0;
        }
        let s = f64::from(levels);
        assert!(error < (512.0 / (s * s)).min(512.0_f64.sqrt() / s) * whole, "{levels}: {error} of {whole}");
    }
}

#[test]
fn the_biased_contract() {
    let shapes = shapes();
    let gradient = normal(dimension(&shapes), 5);
    let left = |name: &str| {
        let (out, _) = alone(name.parse().unwrap(), &shapes, &gradient);
        square(gradient.iter().zip(&out).map(|(g, o)| f64::from(g - o)))
    };
    let whole = square(gradient.iter().map(|&g| f64::from(g)));
    assert!(left("top-k-0.1") <= 0.9 * whole);
    assert_eq!(left("top-k-1"), 0.0);
    // Karimireddy et al. 2019, lemma 8: what is left is 1 − ‖p‖₁²/(d·‖p‖₂²), here for each tensor.
    let sizes = tensors(&shapes).filter(|(_, range)| !range.is_empty()).map(|(_, range)| {
        let sum: f64 = gradient[range.clone()].iter().map(|&g| f64::from(g.abs())).sum();
        sum * sum / range.len() as f64
    });
    let expected = whole - sizes.sum::<f64>();
    assert!((left("ef-sign") / expected - 1.0).abs() < 1e-5, "{} of {expected}", left("ef-sign"));
    // Two means are at least as near as two of the same size.
    assert!(left("one-bit") <= left("ef-sign") * (1.0 + 1e-6));
    assert!(left("power-sgd-4") < whole);
}

#[test]
fn power_sgd_of_as_many_directions_as_there_are_is_the_mean() {
    // Each worker has a matrix of rank 1, so that the mean has rank 3.
    let (shapes, workers) = ([vec![20, 30], vec![7]], 3);
    let gradients: Vec<Vec<f32>> = (0..workers)
        .map(|index| {
            let (p, q) = (normal(20, index), normal(30, 10 + index));
            let matrix = p.iter().flat_map(|p| q.iter().map(move |q| p * q));
            matrix.chain(normal(7, 20 + index)).collect()
        })
        .collect();
    let slices: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
    let mut mean = vec![0.0; 607];
    Rule::Mean.aggregate(&slices, 0, &mut mean).unwrap();
    for rank in [3, 4, 12, 20] {
        let compressor = Compressor::PowerSgd { rank };
        let mut states = vec![State::new(compressor, &shapes); 3];
        let mut out = vec![0.0; 607];
        for round in 0..3 {
            // What one worker leaves out the others' errors make up for: the mean error is 0.
            compressor.exchange(&shapes, &slices, &mut states, (1, round), &mut out).unwrap();
            for (out, mean) in out.iter().zip(&mean) {
                assert!((out - mean).abs() < 1e-4, "rank {rank}, round {round}: {out} of {mean}");
            }
        }
    }
}

#[test]
fn power_sgd_finds_the_leading_directions_by_its_warm_start() {
    // The same matrix in every round, without feedback: a power iteration, whose error comes down to that of the best of rank 1.
    let (shapes, compressor) = ([vec![12, 12]], Compressor::PowerSgd { rank: 1 });
    let gradient: Vec<f32> =
        (0..144).map(|at| if at % 13 == 0 { 1.0 + (at / 13) as f32 } else { 0.0 }).collect();
    let mut states = [State::new(compressor, &shapes)];
    let mut out = vec![0.0; 144];
    for round in 0..60 {
        states[0].error.fill(0.0);
        compressor.exchange(&shapes, &[&gradient], &mut states, (1, round), &mut out).unwrap();
    }
    assert!((out[143] - 12.0).abs() < 1e-3 && out[..143].iter().all(|v| v.abs() < 0.1), "{out:?}");
}

#[test]
fn a_lost_direction_of_power_sgd_comes_back() {
    let (shapes, compressor) = ([vec![10, 10]], Compressor::PowerSgd { rank: 2 });
    let mut states = [State::new(compressor, &shapes)];
    let mut out = vec![0.0; 100];
    compressor.exchange(&shapes, &[&[0.0; 100]], &mut states, (1, 0), &mut out).unwrap();
    assert_eq!(out, [0.0; 100]);
    let (p, q) = (normal(10, 1), normal(10, 2));
    let gradient: Vec<f32> = p.iter().flat_map(|p| q.iter().map(move |q| p * q)).collect();
    compressor.exchange(&shapes, &[&gradient], &mut states, (1, 1), &mut out).unwrap();
    assert!(out.iter().zip(&gradient).all(|(o, g)| (o - g).abs() < 1e-5));
}

#[test]
fn nothing_that_was_left_out_is_lost() {
    let shapes = shapes();
    let d = dimension(&shapes);
    for compressor in all().filter(|compressor| compressor.has_feedback()) {
        let mut states = vec![State::new(compressor, &shapes); 3];
        let (mut sent, mut asked) = (vec![vec![0.0_f64; d]; 3], vec![vec![0.0_f64; d]; 3]);
        let mut total = vec![0.0_f64; d];
        for round in 0..10 {
            let gradients: Vec<Vec<f32>> = (0..3).map(|index| normal(d, 10 * round + index)).collect();
            let slices: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
            let mut out = vec![0.0; d];
            compressor.exchange(&shapes, &slices, &mut states, (1, round), &mut out).unwrap();
            for (index, state) in states.iter().enumerate() {
                let add = |sums: &mut [f64], values: &[f32]| {
                    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
                };
                add(&mut sent[index], state.decoded());
                add(&mut asked[index], slices[index]);
            }
            total.iter_mut().zip(&out).for_each(|(total, &out)| *total += f64::from(out));
        }
        for at in 0..d {
            for index in 0..3 {
                let made = sent[index][at] + f64::from(states[index].error()[at]);
                assert!(
                    (made - asked[index][at]).abs() < 1e-4,
                    "{compressor}: {made} of {}",
                    asked[index][at]
                );
            }
            let mean = (0..3).map(|index| sent[index][at]).sum::<f64>() / 3.0;
            assert!((mean - total[at]).abs() < 1e-4, "{compressor}: {mean} of {}", total[at]);
        }
    }
}

#[test]
fn a_round_is_the_same_whatever_the_number_of_threads() {
    let shapes = shapes();
    let gradients: Vec<Vec<f32>> = (0..7).map(|index| normal(dimension(&shapes), index)).collect();
    let slices: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
    for compressor in all() {
        let on = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut states = vec![State::new(compressor, &shapes); 7];
                let mut out = vec![0.0; slices[0].len()];
                for round in 0..2 {
                    compressor.exchange(&shapes, &slices, &mut states, (seed, round), &mut out).unwrap();
                }
                out
            })
        };
        assert_eq!(on(1, 1), on(3, 1), "{compressor}");
        if compressor.is_unbiased() {
            assert_ne!(on(1, 1), on(1, 2), "{compressor}");
        }
    }
}

#[test]
fn what_is_not_finite_counts_as_zero_except_in_sixteen_bits() {
    let shapes = [vec![20, 20]];
    let mut gradient = normal(400, 0);
    let mut without = gradient.clone();
    for (at, value) in [(3, f32::NAN), (50, f32::INFINITY), (399, f32::NEG_INFINITY)] {
        gradient[at] = value;
        without[at] = 0.0;
    }
    for compressor in all() {
        let (out, _) = alone(compressor, &shapes, &gradient);
        if compressor == Compressor::Fp16 {
            assert!(out[3].is_nan() && out[50] == f32::INFINITY && out[399] == f32::NEG_INFINITY);
        } else {
            assert_eq!(out, alone(compressor, &shapes, &without).0, "{compressor}");
        }
        let (out, _) = alone(compressor, &shapes, &[f32::MAX; 400]);
        let (zeros, _) = alone(compressor, &shapes, &[0.0; 400]);
        assert_eq!(zeros, [0.0; 400], "{compressor}");
        assert!(compressor == Compressor::Fp16 || !out.iter().any(|v| v.is_nan()), "{compressor}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (shapes, compressor) = ([vec![4]], Compressor::EfSign);
    let mut states = [State::new(compressor, &shapes)];
    let mut refusal = |gradients: &[&[f32]], compressor: Compressor, out: &mut [f32]| {
        compressor.exchange(&shapes, gradients, &mut states, (1, 0), out).unwrap_err().to_string()
    };
    let mut out = [0.0; 4];
    assert!(refusal(&[], compressor, &mut out).contains("at least 1"));
    assert!(refusal(&[&[0.0; 4], &[0.0; 4]], compressor, &mut out).contains("states of workers"));
    assert!(refusal(&[&[0.0; 3]], compressor, &mut out).contains("coordinates"));
    assert!(refusal(&[&[0.0; 4]], compressor, &mut [0.0; 5]).contains("coordinates"));
    assert!(refusal(&[&[0.0; 4]], Compressor::OneBit, &mut out).contains("one of one-bit"));
    assert!(refusal(&[&[0.0; 4]], Compressor::Qsgd { levels: 0 }, &mut out).contains("above 0"));
}

/// Those that send one message.
fn coders() -> impl Strategy<Value = Compressor> {
    prop_oneof![
        Just(Compressor::Fp16),
        (1..300_u16).prop_map(|levels| Compressor::Qsgd { levels }),
        (1..300_u16).prop_map(|levels| Compressor::QsgdMax { levels }),
        Just(Compressor::TernGrad),
        (0.001..=1.0).prop_map(|ratio| Compressor::TopK { ratio }),
        Just(Compressor::EfSign),
        Just(Compressor::OneBit),
    ]
}

proptest! {
    #[test]
    fn a_message_is_read_to_its_last_bit_and_no_further(
        compressor in coders(),
        values in prop::collection::vec(prop_oneof![Just(0.0_f32), -1e3..1e3_f32, any::<f32>()], 0..1100),
        cut in 0..1100_usize,
    ) {
        let values: Vec<f32> = values.into_iter().map(|v| if v.is_finite() { v } else { -0.0 }).collect();
        let cut = cut.min(values.len());
        let shapes = [vec![cut], vec![values.len() - cut, 1]];
        let mut writer = Writer::default();
        let mut random = generator(b"test of compressors ", 2, 0, 0);
        compressor.encode(&shapes, &values, &mut random, &mut writer);
        let mut reader = writer.reader();
        let mut out = vec![f32::NAN; values.len()];
        prop_assert!(compressor.decode(&shapes, &mut reader, &mut out).is_some());
        prop_assert_eq!(reader.left(), 0);
        prop_assert!(out.iter().all(|v| !v.is_nan()));
        for (value, out) in values.iter().zip(&out) {
            // No sign is turned round; means and scales stand for 0, too.
            let means = matches!(compressor, Compressor::EfSign | Compressor::OneBit);
            prop_assert!(value * out >= 0.0 || value.abs() < 1e-30, "{} for {}", out, value);
            prop_assert!(means || *value != 0.0 || *out == 0.0, "{} for {}", out, value);
        }
        // Whatever is cut off, nothing is read.
        if writer.length() > 0 {
            let mut short = Writer::default();
            let mut all = writer.reader();
            for _ in 0..writer.length() - 1 {
                short.push(all.take(1).unwrap(), 1);
            }
            prop_assert!(compressor.decode(&shapes, &mut short.reader(), &mut out).is_none());
        }
    }

    #[test]
    fn any_bits_are_read_or_refused(
        compressor in coders(),
        bits in prop::collection::vec(any::<u64>(), 0..40),
        length in 0..600_usize,
    ) {
        let mut writer = Writer::default();
        bits.iter().for_each(|&word| writer.push(word, 64));
        let _ = compressor.decode(&[vec![length]], &mut writer.reader(), &mut vec![0.0; length]);
    }

    #[test]
    fn what_top_k_sends_is_larger_than_what_it_leaves(
        values in prop::collection::vec(-3..=3_i8, 1..200),
        ratio in 0.001..=1.0,
    ) {
        let values: Vec<f32> = values.into_iter().map(f32::from).collect();
        let k = kept(ratio, values.len());
        let places = sparse::largest(&values, k);
        prop_assert_eq!(places.len(), k);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
        order.truncate(k);
        order.sort_unstable();
        prop_assert_eq!(places, order);
    }
}
