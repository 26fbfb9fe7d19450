//! How fast the kernels are beside loops that read and write the same memory and do nothing else.
//!
//! `cargo run --release -p signvote-kernels --example measure [COORDINATES [SECONDS PER GROUP]]`. Rows of a
//! group take turns, and of each the best turn counts. `SIGNVOTE_ISA` forces an instruction set.

#![expect(clippy::print_stdout, reason = "it is a program, and this is its output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use signvote_kernels::{
    AbstainOn, Ballot, Coin, Half, Isa, StreamTally, Tie, agreement, apply, coin_word, decide,
    decide_weighted, hamming, lion_pack, margins, momentum_pack, pack, pack_half, words,
};

/// Coordinates of a chunk of a ballot as it travels.
const CHUNK: usize = 65_536;
const COIN: Tie = Tie::Coin(Coin { key: 1, first_word: 0 });

type Row<'a> = (String, usize, Box<dyn FnMut() + 'a>);

/// A row: its name, the bytes that it moves, and what it does.
fn row<'a>(name: impl Into<String>, bytes: usize, run: impl FnMut() + 'a) -> Row<'a> {
    (name.into(), bytes, Box::new(run))
}

/// Runs the rows by turns. The first is the limit.
fn group(seconds: f64, mut rows: Vec<Row<'_>>) {
    let mut best = vec![Duration::MAX; rows.len()];
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut turns = 0;
    while turns < 3 || Instant::now() < end {
        for ((_, _, run), best) in rows.iter_mut().zip(&mut best) {
            let start = Instant::now();
            run();
            *best = start.elapsed().min(*best);
        }
        turns += 1;
    }
    let rate = |bytes: usize, time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    let limit = rate(rows[0].1, best[0]);
    for ((name, bytes, _), best) in rows.iter().zip(best) {
        let (milliseconds, rate) = (best.as_secs_f64() * 1e3, rate(*bytes, best));
        println!("{name:<44} {milliseconds:>9.3} ms {rate:>7.1} GB/s {:>6.2} of the limit", rate / limit);
    }
    println!();
}

fn plane(seed: u64, coordinates: usize) -> Vec<u64> {
    (0..words(coordinates) as u64).map(|i| coin_word(seed, i)).collect()
}

/// Reads a slice of words, and nothing else.
fn read(words: &[u64]) {
    let mut bits = 0;
    for word in words {
        bits |= word;
    }
    black_box(bits);
}

/// Tallies all chunks, one after another, from batches of that many ballots.
fn stream(ballots: &[Ballot<'_>], batch: usize, tally: &mut StreamTally, (signs, hold): &mut Verdict) {
    let step = CHUNK / 64;
    let mut part = Vec::with_capacity(batch);
    for first in (0..signs.len()).step_by(step) {
        let range = first..first + step;
        tally.clear();
        for ballots in ballots.chunks(batch) {
            part.clear();
            part.extend(ballots.iter().map(|ballot| Ballot::new(&ballot.signs[range.clone()], None)));
            tally.add_all(&part);
        }
        let coin = Tie::Coin(Coin { key: 1, first_word: first as u64 });
        tally.decide(coin, 1, &mut signs[range.clone()], &mut hold[range]);
    }
}

type Verdict = (Vec<u64>, Vec<u64>);

fn votes(coordinates: usize, seconds: f64, voters: usize) {
    let w = words(coordinates);
    let planes: Vec<_> = (0..voters as u64).map(|m| plane(m, coordinates)).collect();
    let silent: Vec<_> = (0..voters as u64).map(|m| plane(m + 1000, coordinates)).collect();
    let dense: Vec<_> = planes.iter().map(|signs| Ballot::new(signs, None)).collect();
    let sparse: Vec<_> = planes.iter().zip(&silent).map(|(s, a)| Ballot::new(s, Some(a))).collect();
    let weights = vec![1; voters];
    let (dense, sparse, planes, weights) = (&dense[..], &sparse[..], &planes[..], &weights[..]);
    let fresh = || (vec![0; w], vec![0; w]);
    let bytes = (voters + 2) * w * 8;
    let mut expected: Verdict = fresh();
    decide(dense, coordinates, COIN, 1, &mut expected.0, &mut expected.1);
    let mut rows = Vec::new();
    let mut limit = fresh();
    rows.push(row(format!("limit: read {voters} planes, write 2"), bytes, move || {
        planes.iter().for_each(|plane| read(plane));
        limit.0.fill(black_box(1));
        limit.1.fill(black_box(0));
    }));
    let mut out = fresh();
    rows.push(row(format!("decide, {voters} voters"), bytes, move || {
        decide(dense, coordinates, COIN, 1, &mut out.0, &mut out.1);
    }));
    let mut out = fresh();
    rows.push(row("decide, half of all votes abstained", bytes + voters * w * 8, move || {
        decide(sparse, coordinates, COIN, 1, &mut out.0, &mut out.1);
    }));
    let mut out = fresh();
    rows.push(row("decide_weighted, weights of 1", bytes, move || {
        let (signs, hold) = (&mut out.0, &mut out.1);
        decide_weighted(dense, weights, coordinates, COIN, 1, signs, hold);
    }));
    for batch in [1, 4, 16] {
        let mut tally = StreamTally::new(CHUNK, voters);
        let mut out = fresh();
        stream(dense, batch, &mut tally, &mut out);
        assert!(out == expected, "a wrong answer");
        rows.push(row(format!("StreamTally by chunks, {batch} at a time"), bytes, move || {
            stream(dense, batch, &mut tally, &mut out);
        }));
    }
    group(seconds, rows);
}

fn values(coordinates: usize, seconds: f64) {
    let w = words(coordinates);
    let random = |seed| -> Vec<f32> {
        (0..coordinates as u64).map(|i| (coin_word(seed, i) >> 40) as f32 - 8_388_607.5).collect()
    };
    let (g, verdict, none) = (random(1), plane(2, coordinates), vec![0; w]);
    let halves: Vec<u16> = (0..coordinates as u64).map(|i| coin_word(3, i) as u16).collect();
    let mut x: [_; 5] = std::array::from_fn(|i| random(i as u64 + 4));
    let [x_limit, x_momentum, x_lion, x_apply, x_hold] = &mut x;
    let mut planes: [_; 6] = std::array::from_fn(|_| vec![0; w]);
    let [s_0, a_0, s_1, a_1, s_2, a_2] = &mut planes;
    let (f32s, plane_bytes) = (4 * coordinates, 8 * w);
    let read_values = |values: &[f32]| {
        let mut bits = 0;
        for value in values {
            bits |= value.to_bits();
        }
        black_box(bits);
    };
    let pack_bytes = f32s + 2 * plane_bytes;
    group(
        seconds,
        vec![
            row("limit: read values, write 2 planes", pack_bytes, || {
                read_values(&g);
                s_0.fill(black_box(1));
                a_0.fill(black_box(0));
            }),
            row("pack", pack_bytes, || {
                pack(&g, s_1, a_1);
            }),
            row("pack_half, binary16", f32s / 2 + 2 * plane_bytes, || {
                pack_half(Half::Binary16, &halves, s_2, a_2);
            }),
        ],
    );
    let bytes = 3 * f32s + 2 * plane_bytes;
    group(
        seconds,
        vec![
            row("limit: read, read and write, write 2 planes", bytes, || {
                for (x, g) in x_limit.iter_mut().zip(&g) {
                    *x = f32::from_bits(x.to_bits() ^ g.to_bits());
                }
                s_0.fill(black_box(1));
                a_0.fill(black_box(0));
            }),
            row("momentum_pack", bytes, || {
                momentum_pack(&g, x_momentum, 0.9, AbstainOn::Momentum, s_1, a_1);
            }),
            row("lion_pack", bytes, || {
                lion_pack(&g, x_lion, (0.9, 0.99), AbstainOn::Momentum, s_2, a_2);
            }),
        ],
    );
    let bytes = 2 * f32s + plane_bytes;
    group(
        seconds,
        vec![
            row("limit: read and write values, read 1 plane", bytes, || {
                x_limit.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() ^ 1));
                read(&verdict);
            }),
            row("apply", bytes, || apply(x_apply, &verdict, None, 1e-3, 1e-4)),
            row("apply with holds", bytes + plane_bytes, || apply(x_hold, &verdict, Some(&none), 1e-3, 1e-4)),
        ],
    );
}

fn counts(coordinates: usize, seconds: f64) {
    let planes: [_; 4] = std::array::from_fn(|i| plane(i as u64, coordinates));
    let [signs, abstain, verdict, hold] = &planes;
    let ballot = Ballot::new(signs, Some(abstain));
    let voters: Vec<_> = (0..15).map(|m| plane(m + 9, coordinates)).collect();
    let ballots: Vec<_> = voters.iter().map(|signs| Ballot::new(signs, None)).collect();
    let (mut out, mut out_limit) = (vec![0u16; coordinates], vec![0u16; coordinates]);
    let bytes = 32 * words(coordinates);
    group(
        seconds,
        vec![
            row("limit: read 4 planes", bytes, || planes.iter().for_each(|plane| read(plane))),
            row("agreement", bytes, || {
                black_box(agreement(ballot, verdict, hold, coordinates));
            }),
            row("hamming", bytes, || {
                black_box(hamming(ballot, verdict, hold, coordinates));
            }),
        ],
    );
    let bytes = 15 * 8 * words(coordinates) + 2 * coordinates;
    group(
        seconds,
        vec![
            row("limit: read 15 planes, write 16 bits each", bytes, || {
                voters.iter().for_each(|plane| read(plane));
                out_limit.fill(black_box(1));
            }),
            row("margins, 15 voters", bytes, || margins(&ballots, coordinates, &mut out)),
        ],
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let coordinates =
        arguments.next().map_or(4_194_304, |n| n.parse::<usize>().expect("a number of coordinates"));
    let coordinates = coordinates.next_multiple_of(CHUNK);
    let seconds = arguments.next().map_or(0.3, |n| n.parse().expect("a number of seconds"));
    println!("{}\n{coordinates} coordinates, one thread\n", Isa::reason());
    values(coordinates, seconds);
    counts(coordinates, seconds);
    for voters in [3, 7, 15, 16, 31, 64, 100] {
        votes(coordinates, seconds, voters);
    }
}
