//! The cases of `signvote bench kernels` under divan, for whoever works on one kernel:
//! `cargo bench -p signvote-bench`, or only some rows by `… --bench kernels -- decide`.
//!
//! `SIGNVOTE_BENCH_DIM` is the number of coordinates. All is on one thread. Rows do not take turns here: what
//! ratios are wanted for is the command's work.

use std::collections::HashSet;
use std::fmt;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use divan::Bencher;
use divan::counter::BytesCount;
use signvote_bench::kernels::{Group, Options, each_group};

/// Small enough for two minutes in all, large enough to be beyond the second-level cache.
const COORDINATES: usize = 1 << 20;
const VOTERS: [u16; 3] = [3, 15, 16];

fn main() {
    divan::main();
}

/// What is timed of a row.
#[derive(Clone, Copy)]
enum Form {
    Kernel,
    Limit,
    Naive,
}

struct Place {
    title: String,
    name: String,
    row: usize,
    form: Form,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Kernel => "",
            Form::Limit => " (limit)",
            Form::Naive => " (naive)",
        };
        write!(f, "{} | {}{form}", self.title, self.name)
    }
}

fn options(d: usize) -> Options {
    Options { d, voters: VOTERS.to_vec(), threads: 1, least_per_group: Duration::ZERO }
}

/// Every row in every form. Their names do not depend on the number of coordinates.
fn places() -> Vec<Place> {
    let mut places = Vec::new();
    let outcome = each_group(&options(1), &mut |group| {
        for row in 0..group.rows() {
            for form in [Form::Kernel, Form::Limit, Form::Naive] {
                if !matches!(form, Form::Naive) || group.has_naive(row) {
                    places.push(Place { title: group.title(), name: group.row(row).to_owned(), row, form });
                }
            }
        }
        Ok(())
    });
    outcome.expect("one coordinate fits");
    places
}

#[divan::bench(args = places(), max_time = 0.5)]
fn rows(bencher: Bencher<'_, '_>, place: &Place) {
    let d = std::env::var("SIGNVOTE_BENCH_DIM").ok();
    let d = d.map_or(COORDINATES, |d| d.parse().expect("SIGNVOTE_BENCH_DIM is a number of coordinates"));
    let mut bencher = Some(bencher);
    let outcome = each_group(&options(d), &mut |mut group| {
        if group.title() == place.title {
            check(&mut group);
            if let Some(bencher) = bencher.take() {
                let bencher = bencher.counter(BytesCount::new(group.bytes(place.row)));
                match place.form {
                    Form::Kernel => bencher.bench_local(|| group.kernel(place.row)),
                    Form::Limit => {
                        group.tune_limit(place.row);
                        bencher.bench_local(|| group.limit(place.row));
                    }
                    Form::Naive => bencher.bench_local(|| group.naive(place.row)),
                }
            }
        }
        Ok(())
    });
    outcome.expect("the buffers fit");
}

/// Checks the answers of a group, the first time that it is made.
fn check(group: &mut Group<'_>) {
    static CHECKED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    if CHECKED.lock().expect("nobody panics here").insert(group.title()) {
        for (row, expected) in group.expected().iter().enumerate() {
            group.check(row, expected).expect("a right answer");
        }
    }
}
