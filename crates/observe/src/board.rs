//! From events to a [`Snapshot`]: the one place where the figures of a run are made.

use std::collections::{BTreeSet, VecDeque};

use signvote_election::{Event, Slot, Traffic, WorkerState, WorkerVotes};

use crate::curve::{Curve, History, MOST_POINTS, Mean, Point};
use crate::health::health;
use crate::outliers::{rule, verdict};
use crate::snapshot::{
    ByTensor, Bytes, Entry, Evaluation, Health, OfTensor, Pace, Phase, SNAPSHOT_VERSION, Series, Snapshot,
    Worker,
};

/// Over how many of the last [`Event::Votes`] a worker's agreement is taken. With ten, one look in thirty was wrong in runs of 1,760 rounds;
/// with thirty it is one in a hundred and forty (docs/dashboard.md).
const RECENT_VOTES: usize = 30;
/// Over how many of the last rounds loss and accuracy are taken.
const RECENT_ROUNDS: usize = 20;
/// Over how many seconds the pace is taken.
const PACE_SECONDS: f64 = 10.0;
/// Most entries that are kept.
const MOST_ENTRIES: usize = 200;

/// Takes in a run's events and can tell how the run stands. Events as they happen and events from a file give the same.
#[derive(Clone, Debug)]
pub struct Board {
    snapshot: Snapshot,
    tensors: Vec<String>,
    curve: Curve,
    votes: VecDeque<(u64, Vec<Option<f64>>)>,
    history: History,
    recent: VecDeque<(Option<f32>, Option<f32>)>,
    /// Times and byte counts of late, for the pace.
    clock: VecDeque<Tick>,
    /// Bytes of an earlier server of the run, which a new one does not know of.
    bytes_before: Vec<Traffic>,
    traffic: Vec<Traffic>,
    /// Rounds voted in and late chunks of every worker, under earlier servers.
    counts_before: Vec<(u64, u64)>,
    /// What all rounds so far would have taken each way as f32, and whether bytes were told that include the last of them: only
    /// then the two are of the same rounds.
    f32_each_way: u64,
    told: bool,
    /// When they were, of late: at least twice.
    told_at: VecDeque<Tick>,
    /// Who has been set apart at least once.
    named: BTreeSet<Slot>,
    /// When rounds were last open, in seconds since 1970.
    open_since: Option<f64>,
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Tick {
    time: f64,
    round: u64,
    f32_each_way: u64,
    bytes: u64,
}

impl Board {
    /// A run of which nothing has been heard. `title` says in a few words what it is, `config` is its `config.toml`.
    pub fn new(title: impl Into<String>, config: impl Into<String>) -> Self {
        let snapshot = Snapshot {
            version: SNAPSHOT_VERSION,
            run: String::new(),
            address: String::new(),
            title: title.into(),
            config: config.into(),
            files: Vec::new(),
            health: Health::default(),
            phase: Phase::Gathering,
            reason: "waiting for workers".into(),
            round: 0,
            rounds: 0,
            incarnation: 0,
            dimension: 0,
            places: 0,
            quorum: 0,
            tolerated_liars: 0,
            kernels: String::new(),
            began: 0.0,
            time: 0.0,
            training_seconds: 0.0,
            loss: None,
            accuracy: None,
            eta: None,
            voters: 0,
            ties: 0,
            holds: 0,
            pace: Pace::default(),
            bytes: Bytes::default(),
            series: Series::default(),
            evaluations: Vec::new(),
            workers: Vec::new(),
            history_rounds: Vec::new(),
            rule: rule(&[]),
            margins: None,
            entries: Vec::new(),
            entries_before: 0,
        };
        Self {
            snapshot,
            tensors: Vec::new(),
            curve: Curve::default(),
            votes: VecDeque::new(),
            history: History::default(),
            recent: VecDeque::new(),
            clock: VecDeque::new(),
            bytes_before: Vec::new(),
            traffic: Vec::new(),
            counts_before: Vec::new(),
            f32_each_way: 0,
            told: false,
            told_at: VecDeque::new(),
            named: BTreeSet::new(),
            open_since: None,
            changes: 0,
        }
    }

    /// Takes in an event that happened at `time`, in seconds since 1970.
    pub fn take(&mut self, time: f64, event: &Event) {
        self.changes += 1;
        let run = &mut self.snapshot;
        if run.began == 0.0 {
            run.began = time;
        }
        run.time = run.time.max(time);
        match event {
            Event::Listening { address, run: id, workers, quorum, tolerated_liars, rounds, kernels } => {
                run.address.clone_from(address);
                run.run.clone_from(id);
                (run.places, run.rounds) = (*workers, *rounds);
                (run.quorum, run.tolerated_liars) = (*quorum as u64, *tolerated_liars as u64);
                run.kernels.clone_from(kernels);
                // A server that comes after another knows of none of its workers.
                for slot in (1..=*workers).filter_map(Slot::new) {
                    match run.workers.get_mut(slot.index()) {
                        Some(worker) => worker.state = WorkerState::Away,
                        None => run.workers.push(nobody(slot)),
                    }
                }
                self.bytes_before = self.total_traffic();
                self.traffic.clear();
                // Bytes that were never told are lost, and so is what they are compared with.
                self.f32_each_way = self.snapshot.bytes.f32_each_way;
                self.counts_before =
                    self.snapshot.workers.iter().map(|it| (it.rounds, it.late_chunks)).collect();
            }
            Event::Started { dimension, tensors, .. } => {
                run.dimension = *dimension as u64;
                self.tensors.clone_from(tensors);
                self.open(time);
            }
            Event::Resumed { round, incarnation, .. } => {
                run.incarnation = *incarnation;
                self.forget_from(round.0);
                self.open(time);
            }
            Event::Committed { round, voters, eta, loss, accuracy, ties, holds, reason, .. } => {
                let round = round.next().0;
                run.round = round;
                run.reason.clone_from(reason);
                (run.voters, run.ties, run.holds) = (*voters as u64, *ties as u64, *holds as u64);
                run.eta = Some(f64::from(*eta));
                self.f32_each_way += 4 * run.dimension * *voters as u64;
                let told = std::mem::take(&mut self.told);
                if told {
                    run.bytes.f32_each_way = self.f32_each_way;
                }
                if let Some(since) = self.open_since.replace(time) {
                    run.training_seconds += (time - since).max(0.0);
                }
                let bytes = run.bytes.round_up + run.bytes.round_down;
                let tick = Tick { time, round, f32_each_way: run.bytes.f32_each_way, bytes };
                let point = Point {
                    round,
                    seconds: run.training_seconds,
                    bytes,
                    loss: Mean::of(*loss),
                    accuracy: Mean::of(*accuracy),
                    eta: *eta,
                };
                self.curve.push(point);
                push_bounded(&mut self.recent, (*loss, *accuracy), RECENT_ROUNDS);
                // One that is older is kept: from it on the whole span is known.
                let forget = |ticks: &mut VecDeque<Tick>, least| {
                    while ticks.len() > least && time - ticks[1].time > PACE_SECONDS {
                        ticks.pop_front();
                    }
                };
                self.clock.push_back(tick);
                forget(&mut self.clock, 1);
                if told {
                    self.told_at.push_back(tick);
                    forget(&mut self.told_at, 2);
                }
            }
            Event::Votes { round, workers, margins } => self.take_votes(round.0, workers, margins),
            Event::Traffic { workers, .. } => {
                self.traffic.clone_from(workers);
                // Of a round that is being committed, or of the last one, they are told before that.
                self.told = true;
                let all = self.total_traffic();
                let sum = |of: fn(&Traffic) -> u64| all.iter().map(of).sum();
                let bytes = &mut self.snapshot.bytes;
                bytes.round_up = sum(|row| row.round_up_bytes);
                bytes.round_down = sum(|row| row.round_down_bytes);
                bytes.join = sum(|row| row.join_up_bytes + row.join_down_bytes);
                for row in &all {
                    if let Some(worker) = self.snapshot.workers.get_mut(row.slot.index()) {
                        worker.up_bytes = row.round_up_bytes + row.join_up_bytes;
                        worker.down_bytes = row.round_down_bytes + row.join_down_bytes;
                    }
                }
            }
            Event::Evaluated { round, test_loss, test_accuracy } => {
                let (seconds, bytes) = self.curve.at(round.0);
                if run.evaluations.len() == MOST_POINTS {
                    // Every other one, and the last.
                    let mut at = 0;
                    run.evaluations.retain(|_| {
                        at += 1;
                        at % 2 == 0
                    });
                }
                run.evaluations.push(Evaluation {
                    round: round.0,
                    loss: test_loss.map(f64::from),
                    accuracy: *test_accuracy,
                    seconds,
                    bytes,
                });
            }
            Event::Joined { slot, name, reason, .. } => {
                if let Some(worker) = run.workers.get_mut(slot.index()) {
                    (worker.state, worker.lag_rounds) = (WorkerState::Voting, 0);
                    worker.name.clone_from(name);
                    worker.last = format!("joined: {reason}");
                }
            }
            Event::Left { slot, reason, .. } => {
                if let Some(worker) = run.workers.get_mut(slot.index()) {
                    worker.state = WorkerState::Away;
                    worker.last = format!("left: {reason}");
                }
            }
            Event::Late { slot, chunks } => {
                if let Some(worker) = run.workers.get_mut(slot.index()) {
                    worker.late_chunks = before(&self.counts_before, *slot).1 + chunks;
                    worker.last = format!("was late in round {}", run.round);
                }
            }
            Event::NonFinite { slot, round, .. } => {
                if let Some(worker) = run.workers.get_mut(slot.index()) {
                    worker.last = format!("its gradient was not finite in round {round}");
                }
            }
            Event::Diverged { slot, reason, .. } => {
                if let Some(worker) = run.workers.get_mut(slot.index()) {
                    worker.last = format!("its replica differed: {reason}");
                }
            }
            Event::Paused { reason, .. } => {
                (run.phase, self.open_since) = (Phase::Paused, None);
                run.bytes.f32_each_way = self.f32_each_way;
                run.reason.clone_from(reason);
            }
            Event::Finished { reason, workers, .. } => {
                (run.phase, self.open_since) = (Phase::Finished, None);
                run.bytes.f32_each_way = self.f32_each_way;
                run.reason.clone_from(reason);
                for record in workers {
                    if let Some(worker) = run.workers.get_mut(record.slot.index()) {
                        let (rounds, late) = before(&self.counts_before, record.slot);
                        (worker.rounds, worker.late_chunks) =
                            (rounds + record.rounds, late + record.late_chunks);
                    }
                }
            }
            _ => {}
        }
        self.enter(time, event);
    }

    /// How many events have been taken in: a snapshot is another when this is.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How the run stands, as far as events have told.
    pub fn snapshot(&self) -> Snapshot {
        self.clone().into_snapshot()
    }

    /// The same, of a board that is of no other use.
    pub fn into_snapshot(mut self) -> Snapshot {
        let pace = self.pace();
        let run = &mut self.snapshot;
        run.loss = mean(self.recent.iter().map(|&(loss, _)| loss));
        run.accuracy = mean(self.recent.iter().map(|&(_, accuracy)| accuracy));
        run.series = self.curve.series();
        run.history_rounds = self.history.rounds;
        for (worker, row) in run.workers.iter_mut().zip(self.history.rows) {
            worker.history = row;
        }
        run.pace = pace;
        let bytes = &mut run.bytes;
        let times = |sent: u64, ways: u64| times_less(sent as f64, (ways * bytes.f32_each_way) as f64);
        let [up, down, both] =
            [(bytes.round_up, 1), (bytes.round_down, 1), (bytes.round_up + bytes.round_down, 2)]
                .map(|(sent, ways)| times(sent, ways));
        (bytes.times_less_up, bytes.times_less_down, bytes.times_less) = (up, down, both);
        run.pace.times_less = times_less(run.pace.bytes_per_second, run.pace.f32_bytes_per_second);
        run.health = health(run, self.recent.iter().any(|(loss, _)| loss.is_none()));
        self.snapshot
    }

    /// Rounds are open from now on.
    fn open(&mut self, time: f64) {
        self.snapshot.phase = Phase::Running;
        self.open_since = Some(time);
        self.clock.clear();
        self.told_at.clear();
    }

    /// What was told of rounds from this one on has not happened, as far as the run is concerned.
    fn forget_from(&mut self, round: u64) {
        self.snapshot.round = round;
        self.curve.truncate(round);
        self.history.truncate(round);
        self.votes.retain(|&(at, _)| at <= round);
        self.recent.clear();
        self.snapshot.evaluations.retain(|evaluation| evaluation.round <= round);
    }

    fn take_votes(&mut self, round: u64, workers: &[WorkerVotes], margins: &[signvote_election::Margins]) {
        let places = self.snapshot.workers.len();
        let mut agreements = vec![None; places];
        for row in workers {
            let Some(worker) = self.snapshot.workers.get_mut(row.slot.index()) else { continue };
            (worker.state, worker.lag_rounds) = (row.state, row.lag_rounds);
            worker.rounds = before(&self.counts_before, row.slot).0 + row.rounds;
            agreements[row.slot.index()] = row.agreement;
        }
        self.history.push(round, &agreements);
        push_bounded(&mut self.votes, (round, agreements), RECENT_VOTES);
        let of_late = |at: usize| {
            let known = self.votes.iter().filter_map(|(_, row)| row.get(at).copied().flatten());
            let (sum, count) = known.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
            (count > 0).then(|| sum / f64::from(count))
        };
        let of_late: Vec<_> = (0..places).map(of_late).collect();
        let (run, mut news) = (&mut self.snapshot, Vec::new());
        let run_time = run.time;
        run.rule = rule(&of_late);
        for (worker, agreement) in run.workers.iter_mut().zip(of_late) {
            worker.agreement = agreement;
            (worker.apart, worker.verdict) = verdict(&run.rule, agreement);
            // Once of each: who comes and goes at the limit would fill the list.
            if worker.apart && self.named.insert(worker.slot) {
                let words =
                    format!("worker {} ({}) is set apart: it {}", worker.slot, worker.name, worker.verdict);
                news.push((worker.slot, words));
            }
        }
        for (slot, words) in news {
            self.add_entry(run_time, "set_apart".into(), Some(slot), true, words);
        }
        let run = &mut self.snapshot;
        if !margins.is_empty() {
            let name =
                |at: usize| self.tensors.get(at).cloned().unwrap_or_else(|| format!("tensor {}", at + 1));
            let tensors =
                margins.iter().enumerate().map(|(at, bins)| OfTensor { name: name(at), bins: bins.to_vec() });
            let mut all = vec![0; 11];
            for bins in margins {
                all.iter_mut().zip(bins).for_each(|(sum, count)| *sum += u64::from(*count));
            }
            run.margins = Some(ByTensor { round, all, tensors: tensors.collect() });
        }
    }

    /// Bytes of this server and those before it.
    fn total_traffic(&self) -> Vec<Traffic> {
        let mut all = self.bytes_before.clone();
        for row in &self.traffic {
            match all.iter_mut().find(|it| it.slot == row.slot) {
                Some(it) => {
                    it.round_up_bytes += row.round_up_bytes;
                    it.round_down_bytes += row.round_down_bytes;
                    it.join_up_bytes += row.join_up_bytes;
                    it.join_down_bytes += row.join_down_bytes;
                }
                None => all.push(*row),
            }
        }
        all
    }

    fn pace(&self) -> Pace {
        let run = &self.snapshot;
        let over = run.phase == Phase::Finished || run.phase == Phase::Paused;
        if over {
            let seconds = run.training_seconds.max(1e-9);
            let bytes = (run.bytes.round_up + run.bytes.round_down) as f64;
            return Pace {
                rounds_per_second: run.round as f64 / seconds,
                bytes_per_second: bytes / seconds,
                f32_bytes_per_second: 2.0 * run.bytes.f32_each_way as f64 / seconds,
                times_less: None,
            };
        }
        let (Some(first), Some(last)) = (self.clock.front(), self.clock.back()) else {
            return Pace::default();
        };
        let seconds = last.time - first.time;
        if seconds <= 0.0 {
            return Pace::default();
        }
        // Bytes are told every few rounds only, which may take long: from one telling to another.
        let (Some(first_told), Some(last_told)) = (self.told_at.front(), self.told_at.back()) else {
            return Pace::default();
        };
        let span = last_told.time - first_told.time;
        let bytes = last_told.bytes.saturating_sub(first_told.bytes) as f64;
        let dense = last_told.f32_each_way.saturating_sub(first_told.f32_each_way);
        Pace {
            rounds_per_second: last.round.saturating_sub(first.round) as f64 / seconds,
            bytes_per_second: if span > 0.0 { bytes / span } else { 0.0 },
            f32_bytes_per_second: if span > 0.0 { 2.0 * dense as f64 / span } else { 0.0 },
            // Made from these, with that of all bytes.
            times_less: None,
        }
    }

    /// Writes an event into the list, if a person would want to know of it.
    fn enter(&mut self, time: f64, event: &Event) {
        let Some(words) = event.sentence() else { return };
        let (name, slot) = name_and_slot(event);
        let warning = matches!(
            event,
            Event::Left { .. }
                | Event::Refused { .. }
                | Event::KeptOut { .. }
                | Event::ShardLost { .. }
                | Event::ShardOutvoted { .. }
                | Event::NotDurable { .. }
                | Event::Late { .. }
                | Event::NonFinite { .. }
                | Event::Diverged { .. }
        );
        // At its end everyone leaves.
        let run = &self.snapshot;
        let over = run.phase == Phase::Finished || (run.rounds > 0 && run.round >= run.rounds);
        self.add_entry(time, name, slot, warning && !over, words);
    }

    fn add_entry(&mut self, time: f64, event: String, slot: Option<Slot>, warning: bool, words: String) {
        let run = &mut self.snapshot;
        let id = run.entries_before + run.entries.len() as u64;
        run.entries.push(Entry { id, time, round: run.round, event, slot, warning, words });
        if run.entries.len() > MOST_ENTRIES {
            run.entries.remove(0);
            run.entries_before += 1;
        }
    }
}

/// How many times less than f32; `None` where there is nothing to compare.
fn times_less(sent: f64, dense: f64) -> Option<f64> {
    (sent > 0.0 && dense > 0.0).then(|| dense / sent)
}

/// An event's name and place, as `events.jsonl` has them.
fn name_and_slot(event: &Event) -> (String, Option<Slot>) {
    let value = serde_json::to_value(event).unwrap_or_default();
    let slot = value["slot"].as_u64().and_then(|slot| Slot::new(u16::try_from(slot).ok()?));
    (value["event"].as_str().unwrap_or_default().to_owned(), slot)
}

/// Rounds and late chunks of a place under earlier servers.
fn before(counts: &[(u64, u64)], slot: Slot) -> (u64, u64) {
    counts.get(slot.index()).copied().unwrap_or_default()
}

fn nobody(slot: Slot) -> Worker {
    Worker {
        slot,
        name: String::new(),
        state: WorkerState::Away,
        lag_rounds: 0,
        rounds: 0,
        late_chunks: 0,
        agreement: None,
        history: Vec::new(),
        up_bytes: 0,
        down_bytes: 0,
        apart: false,
        verdict: String::new(),
        last: String::new(),
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    queue.push_back(value);
    if queue.len() > most {
        queue.pop_front();
    }
}

/// The mean of what is known; `None` if nothing is, or something was not finite.
fn mean(values: impl Iterator<Item = Option<f32>>) -> Option<f64> {
    let values: Option<Vec<f32>> = values.collect();
    let values = values.filter(|values| !values.is_empty())?;
    Some(values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use signvote_election::Round;

    use super::*;
    use crate::curve::MOST_HISTORY;
    use crate::snapshot::Level;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    fn listening(workers: u16) -> Event {
        Event::Listening {
            address: "127.0.0.1:7".into(),
            run: "ab".into(),
            workers,
            quorum: usize::from(workers / 2 + 1),
            tolerated_liars: usize::from(workers / 4),
            rounds: 10_000,
            kernels: "scalar".into(),
        }
    }

    fn committed(round: u64, loss: Option<f32>) -> Event {
        Event::Committed {
            round: Round(round),
            voters: 7,
            partial: 0,
            eta: 1e-3,
            loss,
            accuracy: Some(0.5),
            ties: 1,
            holds: 2,
            reason: "all 7 have voted".into(),
        }
    }

    fn votes(round: u64, agreements: &[f64], margins: Vec<[u32; 11]>) -> Event {
        let row = |(at, &agreement): (usize, &f64)| WorkerVotes {
            slot: slot(at as u16 + 1),
            state: WorkerState::Voting,
            lag_rounds: 0,
            agreement: Some(agreement),
            rounds: round,
        };
        Event::Votes {
            round: Round(round),
            workers: agreements.iter().enumerate().map(row).collect(),
            margins,
        }
    }

    fn traffic(round: u64, bytes: u64) -> Event {
        let row = |number| Traffic {
            slot: slot(number),
            round_up_bytes: bytes,
            round_down_bytes: bytes,
            join_up_bytes: 1,
            join_down_bytes: 2,
        };
        Event::Traffic { round: Round(round), workers: (1..=7).map(row).collect() }
    }

    fn started() -> Event {
        Event::Started { dimension: 1000, workers: 7, tensors: vec!["w".into(), "b".into()] }
    }

    /// A run of so many rounds, ten a second, with three liars.
    fn board(rounds: u64) -> Board {
        let mut board = Board::new("mlp", "seed = 1\n");
        board.take(99.0, &listening(7));
        for number in 1..=7 {
            let event = Event::Joined {
                slot: slot(number),
                name: format!("worker-{number}"),
                round: Round(0),
                reason: "it began with the run".into(),
            };
            board.take(99.5, &event);
        }
        board.take(100.0, &started());
        for round in 0..rounds {
            let time = 100.0 + (round + 1) as f64 / 10.0;
            if (round + 1) % 10 == 0 {
                board.take(time, &traffic(round + 1, 150 * (round + 1)));
            }
            board.take(time, &committed(round, Some(1.0 / (round + 1) as f32)));
            if (round + 1) % 10 == 0 {
                let agreements = [0.56, 0.561, 0.559, 0.69, 0.7, 0.688, 0.691];
                board.take(time, &votes(round + 1, &agreements, vec![[0; 11], [1; 11]]));
            }
        }
        board
    }

    #[test]
    fn a_run_is_told_in_figures() {
        let run = board(200).snapshot();
        assert_eq!((run.phase, run.round, run.rounds, run.dimension), (Phase::Running, 200, 10_000, 1000));
        assert_eq!((run.quorum, run.tolerated_liars, run.places), (4, 1, 7));
        assert!((run.training_seconds - 20.0).abs() < 1e-6);
        assert!((run.pace.rounds_per_second - 10.0).abs() < 1e-6, "{:?}", run.pace);
        assert!((run.pace.bytes_per_second - 7.0 * 2.0 * 150.0 * 10.0).abs() < 1e-3, "{:?}", run.pace);
        assert!((run.pace.f32_bytes_per_second - 7.0 * 2.0 * 4000.0 * 10.0).abs() < 1e-3);
        assert_eq!(run.bytes.f32_each_way, 200 * 7 * 4000);
        assert_eq!((run.bytes.round_up, run.bytes.join), (7 * 150 * 200, 21));
        let times = Some(4000.0 / 150.0);
        assert_eq!(
            (run.bytes.times_less_up, run.bytes.times_less_down, run.bytes.times_less),
            (times, times, times)
        );
        let apart: Vec<_> = run.workers.iter().filter(|it| it.apart).map(|it| it.name.as_str()).collect();
        assert_eq!(apart, ["worker-1", "worker-2", "worker-3"]);
        assert_eq!(run.workers[3].verdict, "votes like the others");
        let entries: Vec<_> = run.entries.iter().filter(|it| it.event == "set_apart").collect();
        assert_eq!(entries.len(), 3, "said once of each");
        assert!(
            entries[0].warning && entries[0].words.starts_with("worker 1 (worker-1) is set apart: it agrees")
        );
        assert_eq!(run.health.level, Level::Bad);
        assert_eq!(run.health.words, "3 of 7 workers are set apart: worker-1, worker-2, worker-3.");
        assert_eq!(
            run.health.more,
            "They still vote, and are outvoted: a vote of 7 outvotes up to 3 blind liars."
        );
        assert_eq!(run.history_rounds.len(), 20);
        assert_eq!(run.workers[0].history, vec![Some(560); 20]);
        let margins = run.margins.unwrap();
        assert_eq!((margins.round, margins.tensors[1].name.as_str()), (200, "b"));
        assert_eq!(margins.all, [1; 11]);
        // Harmonic numbers: the mean of 1/181 … 1/200.
        let mean = (181..=200).map(f64::from).map(f64::recip).sum::<f64>() / 20.0;
        assert!((run.loss.unwrap() - mean).abs() < 1e-6);
    }

    #[test]
    fn many_rounds_are_fewer_points_with_the_same_mean() {
        let mut board = board(0);
        for round in 0..10_000 {
            board.take(100.0 + round as f64, &committed(round, Some(round as f32)));
            board.take(100.0 + round as f64, &votes(round + 1, &[0.5; 7], Vec::new()));
        }
        let run = board.snapshot();
        let series = &run.series;
        assert_eq!((series.stride, series.round.len()), (16, 625));
        assert_eq!((series.round[0], series.round[624]), (16, 10_000));
        assert_eq!(series.loss[1], Some(23.5));
        assert_eq!((series.bytes.len(), series.eta.len(), series.seconds.len()), (625, 625, 625));
        assert!(run.history_rounds.len() <= MOST_HISTORY && run.history_rounds.len() > MOST_HISTORY / 2);
        assert_eq!(*run.history_rounds.last().unwrap(), 10_000);
        assert!(run.workers.iter().all(|worker| worker.history == vec![Some(500); run.history_rounds.len()]));
    }

    #[test]
    fn a_resumed_run_forgets_what_was_lost_and_keeps_its_bytes() {
        let mut board = board(200);
        board.take(500.0, &listening(7));
        assert!(board.snapshot().workers.iter().all(|worker| worker.state == WorkerState::Away));
        board.take(
            500.0,
            &Event::Resumed { round: Round(150), incarnation: 1, reason: "from a snapshot".into() },
        );
        let run = board.snapshot();
        assert_eq!((run.round, run.incarnation, run.phase), (150, 1, Phase::Running));
        assert_eq!(run.series.round.last(), Some(&150));
        assert_eq!(run.history_rounds.last(), Some(&150));
        board.take(501.0, &committed(150, Some(1.0)));
        board.take(501.0, &traffic(151, 10));
        let run = board.snapshot();
        assert_eq!(run.bytes.round_up, 7 * (150 * 200 + 10));
        board.take(501.5, &votes(160, &[0.7; 7], Vec::new()));
        assert_eq!(board.snapshot().workers[0].rounds, 200 + 160, "a new server counts from 0");
        assert!((run.training_seconds - 21.0).abs() < 1e-6, "{}", run.training_seconds);
        assert_eq!(run.series.round.last(), Some(&151));
    }

    #[test]
    fn a_slow_run_has_a_pace_as_well() {
        let mut board = board(0);
        for round in 0..60 {
            let time = 100.0 + 2.0 * (round + 1) as f64;
            if (round + 1) % 10 == 0 {
                board.take(time, &traffic(round + 1, 150 * (round + 1)));
            }
            board.take(time, &committed(round, None));
        }
        let Pace { rounds_per_second, bytes_per_second, f32_bytes_per_second, times_less } =
            board.snapshot().pace;
        assert_eq!(times_less, Some(4000.0 / 150.0));
        assert!((rounds_per_second - 0.5).abs() < 1e-6, "{rounds_per_second}");
        assert!((bytes_per_second - 7.0 * 2.0 * 150.0 * 0.5).abs() < 1e-6, "{bytes_per_second}");
        assert!((f32_bytes_per_second - 7.0 * 2.0 * 4000.0 * 0.5).abs() < 1e-6, "{f32_bytes_per_second}");
        let health = board.snapshot().health;
        assert_eq!((health.level, health.more.as_str()), (Level::Bad, "The training loss is not finite."));
    }

    #[test]
    fn what_happens_to_a_worker_is_said_with_its_reason() {
        let mut board = board(10);
        let left =
            Event::Left { slot: slot(2), name: "worker-2".into(), round: Round(10), reason: "reset".into() };
        board.take(102.0, &left);
        board.take(103.0, &Event::Diverged { slot: slot(3), round: Round(10), reason: "sent again".into() });
        let run = board.snapshot();
        assert!(run.health.more.ends_with("1 is away: worker-2."), "{}", run.health.more);
        assert_eq!((run.workers[1].state, run.workers[1].last.as_str()), (WorkerState::Away, "left: reset"));
        assert_eq!(run.workers[2].last, "its replica differed: sent again");
        let entry = &run.entries[run.entries.len() - 2];
        assert_eq!((entry.event.as_str(), entry.slot, entry.warning), ("left", Some(slot(2)), true));
        assert!(entry.words.contains("worker 2 (worker-2) left in round 10: reset"));
        for at in 0..300 {
            board.take(104.0, &Event::Late { slot: slot(1), chunks: at });
        }
        let run = board.snapshot();
        assert_eq!((run.entries.len(), run.workers[0].late_chunks), (MOST_ENTRIES, 299));
        assert_eq!(run.entries[0].id, run.entries_before);
    }

    #[test]
    fn the_end_is_the_end_and_a_loss_that_is_not_finite_is_none() {
        let mut board = board(100);
        board.take(110.5, &committed(100, None));
        let evaluated = Event::Evaluated { round: Round(50), test_loss: Some(0.5), test_accuracy: 0.75 };
        board.take(110.6, &evaluated);
        let finished = Event::Finished {
            round: Round(101),
            reason: "all rounds are done".into(),
            digest: String::new(),
            replicas_identical: true,
            replicas: 7,
            workers: Vec::new(),
        };
        board.take(111.0, &finished);
        let run = board.snapshot();
        assert_eq!((run.phase, run.loss), (Phase::Finished, None));
        assert_eq!(run.series.loss.last(), Some(&None));
        assert_eq!((run.evaluations[0].seconds, run.evaluations[0].bytes), (5.0, 2 * 7 * 150 * 50));
        assert!((run.pace.rounds_per_second - 101.0 / 10.5).abs() < 1e-6);
        // To the last digit floats come back only with a feature of the library that costs time.
        let back: Snapshot = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
        assert_eq!((back.version, back.workers.len(), back.entries), (1, 7, run.entries));
    }
}
