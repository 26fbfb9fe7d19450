//! Writes down what happens in a run: events, rounds, the model.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use signvote_election::{DigestTree, Event, Identity, Record, Round, Server, Slot, Traffic};
use signvote_ledger::{Base, Ledger, Options};
use signvote_net::Observer;
use signvote_observe::{EventLog, RunConfig, RunDirectory, save_model, save_statistics};

use crate::commands::worker::previous_of;
use crate::commands::{model_so_far, print};
use crate::exit::{Exit, Failure};
use crate::flags::OnFullDisk;
use crate::logs;
use crate::progress::Progress;
use crate::summary::server_table;
use crate::watch::Watch;

/// Where rounds go.
pub(super) enum Store {
    /// Only the newest model is kept: the run ends with the process that started this one.
    Model,
    /// There is no ledger yet, because nobody knows the model. Until then: whose the places are.
    Awaited { options: Options, members: Vec<(Slot, Identity)> },
    /// Snapshots and a log.
    Ledger(Box<Ledger>),
    /// The ledger has been closed.
    Closed,
}

/// An average of the parameters over the rounds: x̄ ← γ·x̄ + (1 − γ)·x.
#[derive(Debug)]
pub(super) struct Average {
    decay: f32,
    x: Vec<f32>,
}

impl Average {
    /// That of a run, which goes on from `x` or begins with nothing.
    pub(super) fn new(decay: f32, x: Vec<f32>) -> Self {
        Self { decay, x }
    }

    /// Takes in x after so many rounds. In the first ones γ is less, (1 + t)/(10 + t), so that the start is soon forgotten.
    fn take(&mut self, x: &[f32], round: Round) {
        if self.x.is_empty() {
            self.x = x.to_vec();
        }
        let t = round.0 as f32;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        for (average, x) in self.x.iter_mut().zip(x) {
            *average += (1.0 - decay) * (x - *average);
        }
    }
}

/// Writes down what happens.
pub(super) struct Recorder {
    pub(super) directory: RunDirectory,
    pub(super) log: EventLog,
    pub(super) store: Store,
    pub(super) on_full_disk: OnFullDisk,
    /// Keeps other servers out of the run's directory.
    pub(super) _lock: Option<std::fs::File>,
    pub(super) save_every: u64,
    /// Whether all workers draw from the same examples: where each has a part of its own, a median over workers is no statistic of all data.
    pub(super) alike: bool,
    /// The run's rules, for its model files.
    pub(super) config: RunConfig,
    /// Rounds of the whole run.
    pub(super) rounds: u64,
    pub(super) saved: Option<Round>,
    pub(super) average: Option<Average>,
    /// Rounds from one of its checkpoints to the next; 0: none.
    pub(super) average_every: u64,
    pub(super) print_events: bool,
    pub(super) progress: Progress,
    /// What watches the run, if this process does.
    pub(super) watch: Option<Watch>,
    pub(super) traffic: Vec<Traffic>,
    /// How it ended.
    pub(super) ended: Option<Event>,
    /// Whether somebody has told this process to stop.
    pub(super) stopped: Arc<AtomicBool>,
    /// Since when rounds could not be kept, while the training goes on.
    pub(super) not_durable: Option<Round>,
    pub(super) failure: Option<Failure>,
}

impl Recorder {
    pub(super) fn record_event(&mut self, event: &Event) -> Result<(), Failure> {
        // Who watches is told, whether there is room for it on the disk or not.
        let logged = self.log.append(event);
        if self.print_events {
            let json = serde_json::to_string(event)
                .map_err(|error| Failure::internal("cannot write an event", &error))?;
            print(&json);
        }
        if self.stopped.load(Relaxed) {
            self.progress.ending();
        }
        self.show(event);
        logs::event(event, self.progress.covers(event));
        self.progress.event(event);
        Ok(logged?)
    }

    /// Tells who watches.
    fn show(&mut self, event: &Event) {
        if let Some(watch) = &mut self.watch {
            watch.take(event);
        }
    }

    fn save(&mut self, election: &Server) -> Result<(), Failure> {
        let Some((layout, x, settings)) = election.model() else { return Ok(()) };
        if self.saved == Some(election.round()) {
            return Ok(());
        }
        let round = election.round();
        let config = &self.config;
        let write = |path: &std::path::Path| save_model(path, layout, x, round, config, settings);
        let base = || Base { position: election.position(), digest: DigestTree::new(x).root() };
        match &mut self.store {
            Store::Model => write(&self.directory.model())?,
            Store::Ledger(ledger) => {
                ledger.rotate(base(), write)?;
            }
            Store::Awaited { options, members } => {
                let Some(charter) = election.charter() else { return Ok(()) };
                let run_dir = self.directory.path();
                let mut ledger = Ledger::create(run_dir, charter.encode(), base(), options.clone(), write)?;
                members.iter().try_for_each(|(slot, identity)| ledger.bind(*slot, identity))?;
                self.store = Store::Ledger(Box::new(ledger));
            }
            Store::Closed => return Ok(()),
        }
        // One that was cut short would not be that of the round that the run goes on from.
        let whole = round.0 >= self.rounds || !self.stopped.load(Relaxed);
        // Before the first round there is none.
        if let Some(average) = self.average.as_ref().filter(|average| whole && !average.x.is_empty()) {
            save_model(&self.directory.ema(), layout, &average.x, round, &self.config, settings)?;
        }
        self.saved = Some(round);
        if self.not_durable.take().is_some() {
            self.record_event(&Event::DurableAgain { round })?;
        }
        let path = self.directory.model();
        self.record_event(&Event::Saved { round, path: path.display().to_string() })
    }

    /// Ends the log: it says that nothing is missing.
    fn close(&mut self) -> Result<(), Failure> {
        match std::mem::replace(&mut self.store, Store::Closed) {
            Store::Ledger(ledger) => Ok(ledger.close()?),
            store => {
                self.store = store;
                Ok(())
            }
        }
    }

    fn take(&mut self, event: &Event, election: &Server) -> Result<(), Failure> {
        match event {
            Event::Traffic { workers, .. } => self.traffic.clone_from(workers),
            Event::Committed { .. } => {
                if let (Some(average), Some((layout, x, settings))) = (&mut self.average, election.model()) {
                    let (round, path) = (election.round(), self.directory.average());
                    average.take(x, round);
                    if self.average_every > 0 && round.0.is_multiple_of(self.average_every) {
                        // There is none before the first.
                        let _ = std::fs::rename(&path, previous_of(&path));
                        save_model(&path, layout, &average.x, round, &self.config, settings)?;
                    }
                }
            }
            // A log starts with the run.
            Event::Started { .. } if matches!(self.store, Store::Awaited { .. }) => self.save(election)?,
            // From here on a file that cannot be written is a failure, whatever was told: there is no later.
            Event::Finished { .. } => {
                self.ended = Some(event.clone());
                // Before the model, which is evaluated as soon as it is there.
                let path = self.directory.statistics();
                let statistics = election.statistics().filter(|_| self.alike);
                let kept = statistics.map_or(Ok(()), |it| save_statistics(&path, it));
                self.save(election)?;
                kept?;
                self.close()?;
            }
            // A run that has not begun leaves nothing to go on with.
            Event::Paused { .. } if !matches!(self.store, Store::Awaited { .. }) => {
                self.save(election)?;
                self.close()?;
            }
            _ => {}
        }
        self.record_event(event)?;
        let due = matches!(event, Event::Committed { .. })
            && self.save_every > 0
            && election.round().0.is_multiple_of(self.save_every)
            // That of the last one waits for the end, and the workers' statistics.
            && election.round().0 < self.rounds;
        if due { self.save(election) } else { Ok(()) }
    }

    /// Gives the reason to stop, if this is one.
    fn weigh(&mut self, result: Result<(), Failure>, round: Round) -> ControlFlow<String> {
        let Err(failure) = result else { return ControlFlow::Continue(()) };
        if self.on_full_disk == OnFullDisk::GoOn && failure.exit == Exit::Files && self.ended.is_none() {
            if self.not_durable.is_none() {
                self.not_durable = Some(round);
                tracing::error!(round = round.0, "the run is not kept from here on: {failure}");
                // It may well not fit either.
                let event = Event::NotDurable { round, reason: failure.to_string() };
                let _ = self.log.append(&event);
                self.show(&event);
            }
            return ControlFlow::Continue(());
        }
        let reason = format!("the server stopped: {failure}");
        self.failure.get_or_insert(failure);
        ControlFlow::Break(reason)
    }

    pub(super) fn finish(mut self, quiet: bool) -> Result<Exit, Failure> {
        if let Some(watch) = self.watch.take() {
            watch.close();
        }
        if let Some(failure) = self.failure {
            return Err(match self.store {
                Store::Ledger(_) => {
                    let path = self.directory.path().display();
                    Failure::new(
                        failure.exit,
                        format!("{failure}; to go on: signvote server --resume {path}"),
                    )
                }
                _ => failure,
            });
        }
        let quiet = quiet || self.print_events;
        if let (Some(finished @ Event::Finished { .. }), false) = (&self.ended, quiet) {
            print(&server_table(finished, &self.traffic));
        }
        let model = model_so_far(&self.directory);
        let path = self.directory.path().display();
        match self.ended {
            Some(Event::Finished { round, reason, .. }) if self.stopped.load(Relaxed) => {
                Err(Failure::new(Exit::Interrupted, format!("{reason} after {round} rounds; {model}")))
            }
            Some(Event::Paused { round, reason }) => {
                let next = match self.store {
                    Store::Closed => format!("to go on: signvote server --resume {path}"),
                    _ => model,
                };
                Err(Failure::new(Exit::Interrupted, format!("{reason} after {round} rounds; {next}")))
            }
            _ => Ok(Exit::Success),
        }
    }
}

impl Observer for Recorder {
    fn observe(&mut self, event: &Event, election: &Server) -> ControlFlow<String> {
        if let Event::Paused { .. } = event {
            self.ended.get_or_insert_with(|| event.clone());
        }
        if self.failure.is_some() {
            // The first failure ends the run; what comes after it cannot be written either. Who watches sees how it ended.
            self.show(event);
            return ControlFlow::Continue(());
        }
        let result = self.take(event, election);
        self.weigh(result, election.round())
    }

    fn record(&mut self, record: &Record, _: &Server) -> ControlFlow<String> {
        let result = match &mut self.store {
            // A log that has a gap refuses by itself, until a snapshot makes up for it.
            Store::Ledger(ledger) => ledger.record(record),
            _ => Ok(()),
        };
        self.weigh(result.map_err(Failure::from), record.round())
    }

    fn bound(&mut self, slot: Slot, identity: &Identity, election: &Server) -> ControlFlow<String> {
        let result = match &mut self.store {
            Store::Awaited { members, .. } => {
                members.push((slot, identity.clone()));
                Ok(())
            }
            Store::Ledger(ledger) => ledger.bind(slot, identity),
            Store::Model | Store::Closed => Ok(()),
        };
        self.weigh(result.map_err(Failure::from), election.round())
    }
}
