//! Which to choose, and from which rate on that changes.

use serde::Serialize;

use super::{Bound, Cluster, Compute, Costs, Step, System, step};
use crate::Rate;

/// What runs under the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// As programs do it today: an all-reduce does (PyTorch's DDP), a vote comes after it.
    Today,
    /// Nothing.
    None,
    /// Every exchange.
    All,
}

impl Overlap {
    /// The step's time, in seconds, if so much is hidden.
    #[must_use]
    pub fn seconds(self, step: &Step) -> f64 {
        match self {
            Self::All => step.under_s,
            Self::Today if !step.system.is_vote() => step.under_s,
            Self::Today | Self::None => step.after_s,
        }
    }
}

/// From which link rate on an all-reduce makes a step as fast as the fastest vote.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakEven {
    /// At any rate.
    Always,
    /// From that one on, in bits a second.
    From(Rate),
    /// At none: it takes longer on a link of no time at all.
    Never,
}

/// Rates that are looked at, as powers of ten of bits a second: 100 bit/s to 1 Pbit/s.
const POWERS: std::ops::RangeInclusive<f64> = 2.0..=15.0;
/// Steps of the first look.
const GRID: u32 = 1300;

/// Finds the rate from which on `dense` is as fast as the fastest of `votes`, at all higher rates too.
///
/// The difference of the two falls with the rate, mostly; where cores are the limit of one it need not. So the highest rate at
/// which the vote is faster is looked for on a grid, and then halved to 9 digits.
///
/// # Panics
/// Never; `votes` may be empty, and then it is [`BreakEven::Always`].
#[must_use]
pub fn break_even(
    dense: System,
    votes: &[System],
    dim: f64,
    cluster: &Cluster,
    costs: &Costs,
    (compute, overlap): (Compute, Overlap),
) -> BreakEven {
    let vote_wins = |power: f64| {
        let Some(rate) = Rate::from_bits_per_second(10_f64.powf(power)) else { return false };
        let cluster = Cluster { rate, ..cluster.clone() };
        let time = |system| overlap.seconds(&step(system, dim, &cluster, costs, compute));
        let fastest = votes.iter().map(|vote| time(*vote)).fold(f64::INFINITY, f64::min);
        // Equal but for rounding is as fast.
        fastest < time(dense) * (1.0 - 1e-9)
    };
    let (low, high) = (*POWERS.start(), *POWERS.end());
    if vote_wins(high) {
        return BreakEven::Never;
    }
    let at = |index: u32| low + (high - low) * f64::from(index) / f64::from(GRID);
    let Some(index) = (0..GRID).rev().find(|index| vote_wins(at(*index))) else { return BreakEven::Always };
    let (mut vote, mut all_reduce) = (at(index), at(index + 1));
    while all_reduce - vote > 1e-9 {
        let middle = f64::midpoint(vote, all_reduce);
        if vote_wins(middle) {
            vote = middle;
        } else {
            all_reduce = middle;
        }
    }
    Rate::from_bits_per_second(10_f64.powf(all_reduce)).map_or(BreakEven::Never, BreakEven::From)
}

/// A choice, and its reason in a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// What to choose.
    pub system: System,
    /// Why.
    pub why: String,
}

/// A step that is so much longer than another is as fast: what is simpler decides.
const AS_FAST: f64 = 1.02;

/// Chooses the system with the shortest step. Where two are as fast within 2%, the one that asks for less is taken: fp32 before
/// fp16, one server beside a worker before shards, those before a host of its own, and an all-reduce, which changes no
/// optimiser, before a vote.
///
/// `None` if there are no steps.
#[must_use]
pub fn choose(steps: &[Step], hosts: u32, overlap: Overlap) -> Option<Choice> {
    let simplest =
        [System::RingFp32, System::RingFp16, System::Central, System::Sharded, System::CentralApart];
    let fastest = steps.iter().map(|step| overlap.seconds(step)).fold(f64::INFINITY, f64::min);
    let within = |step: &&Step| overlap.seconds(step) <= fastest * AS_FAST;
    let step_of = |system: &System| steps.iter().find(|step| step.system == *system);
    let chosen = simplest.iter().filter_map(step_of).find(within)?;
    let time = overlap.seconds(chosen);
    let best = |vote: bool| {
        let others = steps.iter().filter(|step| step.system.is_vote() == vote);
        others.min_by(|a, b| overlap.seconds(a).total_cmp(&overlap.seconds(b)))
    };
    let than = |other: &Step| format!("{} beside {}", ms(time), ms(overlap.seconds(other)));
    let why = if chosen.system.is_vote() {
        let dense = best(false).map_or_else(String::new, |dense| {
            format!("; a step takes {} with {}", than(dense), dense.system.title())
        });
        format!("{}{dense}", topology(chosen, steps, hosts, overlap))
    } else {
        let hides = matches!(overlap, Overlap::Today | Overlap::All)
            && chosen.under_s < chosen.after_s - 0.5 * chosen.exchange.seconds();
        let hidden = if hides {
            format!("most of its exchange of {} hides under the backward pass", ms(chosen.exchange.seconds()))
        } else {
            format!("its exchange takes {} only", ms(chosen.exchange.seconds()))
        };
        let vote = best(true).map_or_else(String::new, |vote| {
            let saves = if overlap.seconds(vote) < time { "less than 2%" } else { "nothing" };
            format!("; a step takes {} with the fastest vote, which saves {saves}", than(vote))
        });
        format!("{hidden}{vote}")
    };
    Some(Choice { system: chosen.system, why })
}

/// Why this topology of the vote.
fn topology(chosen: &Step, steps: &[Step], hosts: u32, overlap: Overlap) -> String {
    let n = f64::from(hosts.max(1));
    let ballots = |system: System| system.link_bytes(8.0, hosts);
    let other = |system| steps.iter().find(|step| step.system == system);
    match chosen.system {
        System::Sharded => match other(System::Central) {
            Some(central) if central.exchange.bound() == Bound::Link => format!(
                "the busiest link carries {:.1} ballots each way, with one server {:.0}",
                ballots(System::Sharded),
                ballots(System::Central)
            ),
            Some(_) => {
                format!("every host counts 1/{n:.0} of the coordinates, and no server's core is the limit")
            }
            None => format!("the busiest link carries {:.1} ballots each way", ballots(System::Sharded)),
        },
        System::Central => match other(System::Sharded) {
            Some(sharded) if overlap.seconds(sharded) <= overlap.seconds(chosen) => {
                "one server is simpler, and shards gain less than 2%".into()
            }
            Some(_) => "one server is simpler, and shards gain nothing".into(),
            None => "one server beside a worker needs no further host".into(),
        },
        _ => "a server on a host of its own shares neither link nor cores with a worker".into(),
    }
}

/// Seconds as milliseconds, with three digits.
#[must_use]
fn ms(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}
