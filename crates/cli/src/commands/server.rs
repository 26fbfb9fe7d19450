//! `signvote server`: an election and its run directory.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::rc::Rc;

use signvote_election::{Event, Round, RunId, Server, Traffic, decision};
use signvote_kernels::Isa;
use signvote_net::{Observer, Serve, listen, serve};
use signvote_observe::{EventLog, RunDirectory, save_model};

use super::{model_so_far, print, run_directory, write_config};
use crate::exit::{Exit, Failure};
use crate::flags::{Aggregate, ServerFlags};
use crate::logs;
use crate::processes::{runtime, told_to_stop};
use crate::progress::{self, Progress};
use crate::summary::server_table;

/// Rounds between two counts of bytes in the log.
const TRAFFIC_EVERY: u64 = 10;

pub(crate) fn run(flags: &ServerFlags) -> Result<Exit, Failure> {
    let address = resolve(&flags.listen)?;
    let config = flags.rules.config(flags.rounds, new_run_id())?;
    let terms = config.terms.clone();
    let quorum = config.quorum;
    let election = Server::new(config)?;
    runtime()?.block_on(async {
        let told = told_to_stop(flags.lifeline);
        let listener = listen(address, flags.insecure).await?;
        let local = listener.local_addr().map_err(|error| Failure::internal("no local address", &error))?;
        let directory = match &flags.run_dir {
            // Whoever started this process has made the directory and keeps the settings there.
            Some(path) if flags.lifeline => RunDirectory::made_by_another(path),
            path => {
                let directory = run_directory(path.as_deref())?;
                write_config(&directory, flags, "server")?;
                directory
            }
        };
        // Never to be saved before the end, it has only one part.
        let part = if flags.save_every == 0 { flags.rounds } else { flags.save_every };
        let mut recorder = Recorder {
            log: directory.event_log()?,
            directory,
            save_every: flags.save_every,
            saved: None,
            print_events: flags.print_events,
            progress: Progress::new(flags.quiet || flags.print_events, part, flags.rounds, false),
            traffic: Vec::new(),
            finished: None,
            stopped: Rc::default(),
            failure: None,
        };
        let listening = Event::Listening {
            address: local.to_string(),
            run: terms.run.to_string(),
            workers: terms.workers,
            quorum,
            tolerated_liars: decision::tolerated_liars(quorum),
            rounds: terms.rounds,
            kernels: Isa::reason().to_owned(),
        };
        recorder.progress.say(&format!(
            "run {} listens at {local} for {} workers; files in {}",
            terms.run,
            terms.workers,
            recorder.directory.path().display()
        ));
        recorder.progress.say(&progress::kernels());
        recorder.progress.say(&rules(flags.rules.aggregate, quorum, usize::from(terms.workers)));
        recorder.record(&listening)?;
        let options = Serve { traffic_every: TRAFFIC_EVERY, workers: terms.workers };
        let stopped = Rc::clone(&recorder.stopped);
        let stop = async {
            let reason = told.await;
            stopped.set(true);
            reason
        };
        serve(listener, election, options, &mut recorder, stop).await;
        recorder.finish(flags.quiet)
    })
}

/// What the quorum means, with the bound that goes with every claim.
pub(crate) fn rules(aggregate: Aggregate, quorum: usize, workers: usize) -> String {
    if aggregate == Aggregate::Mean {
        return format!(
            "a round needs {quorum} of {workers} gradients; a mean has no defence: one liar can ruin it"
        );
    }
    /// An example between a coin and certainty.
    const RIGHT: f64 = 0.7;
    let (least, most) = (decision::tolerated_liars(quorum), decision::tolerated_liars(workers));
    let percent = 100.0 * decision::colluders_that_break(RIGHT);
    format!(
        "a round needs {quorum} of {workers} ballots: with all {workers}, up to {most} blind liars are outvoted, \
         with {quorum}, up to {least}; colluders who know the votes break it from {percent:.0}% on \
         where honest votes are right with probability {RIGHT}"
    )
}

fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let wrong =
        |reason: String| Failure::usage(format!("--listen wants HOST:PORT, got {address:?}: {reason}"));
    let mut addresses = address.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    addresses.next().ok_or_else(|| wrong("no such host".into()))
}

/// A run id that no other run has: two hashes under keys that the standard library draws at random.
fn new_run_id() -> RunId {
    let mut id = [0; 16];
    for half in id.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
    }
    RunId(id)
}

/// Writes down what happens.
struct Recorder {
    directory: RunDirectory,
    log: EventLog,
    save_every: u64,
    saved: Option<Round>,
    print_events: bool,
    progress: Progress,
    traffic: Vec<Traffic>,
    finished: Option<Event>,
    /// Whether somebody has told this process to stop.
    stopped: Rc<Cell<bool>>,
    failure: Option<Failure>,
}

impl Recorder {
    fn record(&mut self, event: &Event) -> Result<(), Failure> {
        self.log.append(event)?;
        if self.print_events {
            let json = serde_json::to_string(event)
                .map_err(|error| Failure::internal("cannot write an event", &error))?;
            print(&json);
        }
        if self.stopped.get() {
            self.progress.ending();
        }
        logs::event(event, self.progress.covers(event));
        self.progress.event(event);
        Ok(())
    }

    fn save(&mut self, election: &Server) -> Result<(), Failure> {
        let Some((layout, x, settings)) = election.model() else { return Ok(()) };
        if self.saved == Some(election.round()) {
            return Ok(());
        }
        self.saved = Some(election.round());
        let path = self.directory.model();
        save_model(&path, layout, x, election.round(), settings)?;
        self.record(&Event::Saved { round: election.round(), path: path.display().to_string() })
    }

    fn take(&mut self, event: &Event, election: &Server) -> Result<(), Failure> {
        match event {
            Event::Traffic { workers, .. } => self.traffic.clone_from(workers),
            // The model is on disk before anyone hears that the run is over.
            Event::Finished { .. } => {
                self.save(election)?;
                self.finished = Some(event.clone());
            }
            _ => {}
        }
        self.record(event)?;
        let due = matches!(event, Event::Committed { .. })
            && self.save_every > 0
            && election.round().0.is_multiple_of(self.save_every);
        if due { self.save(election) } else { Ok(()) }
    }

    /// Keeps the first failure.
    fn note(&mut self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.failure.get_or_insert(failure);
        }
    }

    fn finish(self, quiet: bool) -> Result<Exit, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if let (Some(finished), false, false) = (&self.finished, quiet, self.print_events) {
            print(&server_table(finished, &self.traffic));
        }
        match self.finished {
            Some(Event::Finished { round, reason, .. }) if self.stopped.get() => {
                let model = model_so_far(&self.directory);
                Err(Failure::new(Exit::Interrupted, format!("{reason} after {round} rounds; {model}")))
            }
            _ => Ok(Exit::Success),
        }
    }
}

impl Observer for Recorder {
    fn observe(&mut self, event: &Event, election: &Server) -> ControlFlow<String> {
        if self.failure.is_some() {
            // The first failure ends the run; what comes after it cannot be written either.
            return ControlFlow::Continue(());
        }
        let result = self.take(event, election);
        let reason = result.as_ref().err().map(ToString::to_string);
        self.note(result);
        match reason {
            Some(reason) => ControlFlow::Break(format!("the server stopped: {reason}")),
            None => ControlFlow::Continue(()),
        }
    }
}
