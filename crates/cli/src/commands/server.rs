//! `signvote server`: an election and its run directory.

mod recorder;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use signvote_election::decision::SecondConnection;
use signvote_election::{
    AggregateKind, Charter, Config, Event, Position, Round, RunId, Saved, Server, decision,
};
use signvote_kernels::Isa;
use signvote_learn::Partition;
use signvote_ledger::{Durable, Options, Recovered};
use signvote_net::tls::{Acceptor, Credentials};
use signvote_net::{Serve, Stop, listen, serve};
use signvote_observe::{RunDirectory, SavedModel, Standing, WorkerCheckpoint, load_checkpoint, load_model};
use tokio::sync::mpsc;

use super::shard::resolve;
use super::worker::previous_of;
use super::{run_directory, write_config};
use crate::exit::{Exit, Failure};
use crate::flags::{Aggregate, Deadline, OnFullDisk, SameIdentity, ServerFlags, TopologyKind};
use crate::processes::{runtime, told_to_stop};
use crate::progress::{self, Progress};
use crate::rules::seconds;
use crate::watch::{Plan, Watch};
use recorder::{Average, Recorder, Store};

/// Rounds between two counts of bytes, and of votes, in the log.
const TRAFFIC_EVERY: u64 = 10;
/// How long the workers of a run that goes on may take to start.
const RESTARTING: Duration = Duration::from_secs(120);
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

pub(crate) fn run(flags: &ServerFlags) -> Result<Exit, Failure> {
    let address = resolve("listen", &flags.listen)?;
    let tls = match &flags.serving.tls {
        Some(directory) => Some(Acceptor::new(Credentials::load(directory, "server")?)?),
        None => None,
    };
    let stop_patience = seconds("stop-patience", flags.serving.stop_patience, true)?;
    let Prepared { election, terms, quorum, store, resumed, average, notices } = prepare(flags)?;
    let decay = flags.rules.steps.ema;
    let average = (decay > 0.0).then(|| Average::new(decay, average));
    runtime()?.block_on(async {
        let stopped = Arc::new(AtomicBool::new(false));
        let stops = stops(flags.lifeline, stop_patience, Arc::clone(&stopped));
        let listener = listen(address, flags.serving.insecure || tls.is_some()).await?;
        let local = listener.local_addr().map_err(|error| Failure::internal("no local address", &error))?;
        // Who started this process watches the run itself.
        let plan = if flags.lifeline { None } else { Some(Plan::make(&flags.watch)?) };
        let directory = match (&flags.resume, &flags.run_dir) {
            (Some(path), _) => RunDirectory::made_by_another(path),
            // Whoever started this process has made the directory and keeps the settings there.
            (_, Some(path)) if flags.lifeline => RunDirectory::made_by_another(path),
            (_, path) => {
                let directory = run_directory(path.as_deref())?;
                write_config(&directory, flags, "server")?;
                directory
            }
        };
        // Until there is a ledger, which has a lock of its own, and beside it.
        let lock = match store {
            Store::Model => None,
            _ => Some(signvote_ledger::lock(&directory.config(), directory.path())?),
        };
        let quiet = flags.quiet || flags.print_events;
        let watch = match plan {
            Some(plan) => Some(Watch::start(plan, &directory, quiet)?),
            None => None,
        };
        // Never to be saved before the end, it has only one part.
        let part = if flags.save_every == 0 { flags.rounds } else { flags.save_every };
        let mut recorder = Recorder {
            log: directory.event_log()?,
            directory,
            store,
            on_full_disk: flags.serving.on_full_disk,
            _lock: lock,
            save_every: flags.save_every,
            alike: flags.rules.partition == Partition::Iid,
            config: flags.rules.as_config(terms.rounds)?,
            rounds: terms.rounds,
            saved: None,
            average,
            average_every: flags.average_every,
            print_events: flags.print_events,
            progress: Progress::new(quiet, part, flags.rounds, false),
            watch,
            traffic: Vec::new(),
            ended: None,
            stopped,
            not_durable: None,
            failure: None,
        };
        let workers = terms.workers;
        recorder.progress.say(&format!(
            "run {} listens at {local} for {workers} workers, {}; files in {}",
            terms.run,
            if tls.is_some() { "with certificates" } else { "unencrypted" },
            recorder.directory.path().display()
        ));
        recorder.progress.say(&progress::kernels());
        recorder.progress.say(&flags.rules.rate_in_words(terms.rounds));
        recorder.progress.say(&rules(flags.rules.aggregate, quorum, usize::from(workers)));
        recorder.record_event(&Event::Listening {
            address: local.to_string(),
            run: terms.run.to_string(),
            workers,
            quorum,
            tolerated_liars: decision::tolerated_liars(quorum),
            rounds: terms.rounds,
            kernels: Isa::reason().to_owned(),
        })?;
        for notice in &notices {
            recorder.progress.say(notice);
        }
        if let Some(resumed) = &resumed {
            recorder.record_event(resumed)?;
        }
        let resumable = !matches!(recorder.store, Store::Model);
        let options = Serve { traffic_every: TRAFFIC_EVERY, workers, tls, resumable };
        serve(listener, election, options, &mut recorder, stops).await;
        recorder.finish(flags.quiet)
    })
}

/// An election that is ready to be served.
struct Prepared {
    election: Server,
    terms: signvote_election::Terms,
    quorum: usize,
    store: Store,
    /// Said of a run that goes on.
    resumed: Option<Event>,
    /// The average of the parameters that it goes on with; empty where it begins anew.
    average: Vec<f32>,
    notices: Vec<String>,
}

/// A new election, or the one that `--resume` names.
fn prepare(flags: &ServerFlags) -> Result<Prepared, Failure> {
    let serving = &flags.serving;
    let mean = flags.rules.aggregate == Aggregate::Mean;
    if serving.record_ballots && (serving.durable == Durable::Off || mean) {
        let message =
            "--record-ballots goes with a log: not with --durable off, and not with --aggregate mean";
        return Err(Failure::usage(message));
    }
    if serving.record_ballots && flags.rules.topology == TopologyKind::Sharded {
        let message =
            "--record-ballots goes with --topology central: shards see ballots, the log's server does not";
        return Err(Failure::usage(message));
    }
    if serving.durable == Durable::Always && serving.on_full_disk == OnFullDisk::GoOn {
        let message = "--durable always promises that nobody is told of a round that is not on disk: \
                       --on-full-disk go-on goes with interval or off";
        return Err(Failure::usage(message));
    }
    let options = Options {
        durable: serving.durable,
        max_bytes: u64::from(serving.log_mib) * MIB,
        keep_all: serving.record_ballots,
        ..Options::default()
    };
    // A run of `train` ends with it, and the state of a mean's optimiser is nowhere but in memory.
    let keep = !flags.lifeline && !mean;
    if let (Some(checkpoint), Some(run_dir)) = (&flags.restore, &flags.run_dir) {
        return restore(flags, checkpoint, &RunDirectory::made_by_another(run_dir));
    }
    let Some(path) = &flags.resume else { return begin(flags, options, keep, Vec::new()) };
    match Recovered::open(path) {
        // Its server was stopped before the first round: nothing is lost if it begins anew.
        Err(signvote_ledger::Error::Missing { .. })
            if keep && !RunDirectory::made_by_another(path).model().exists() =>
        {
            let notice = format!("no round of {} had begun: the run begins now", path.display());
            begin(flags, options, keep, vec![notice])
        }
        recovered => {
            let mut recovered = recovered?;
            if serving.new_incarnation {
                recovered.distrust();
            }
            resume(flags, path, recovered, options)
        }
    }
}

fn begin(
    flags: &ServerFlags,
    options: Options,
    keep: bool,
    notices: Vec<String>,
) -> Result<Prepared, Failure> {
    let config = config(flags, new_run_id())?;
    let (terms, quorum) = (config.terms.clone(), config.quorum);
    let election = Server::new(config)?;
    let store = if keep { Store::Awaited { options, members: Vec::new() } } else { Store::Model };
    Ok(Prepared { election, terms, quorum, store, resumed: None, average: Vec::new(), notices })
}

fn resume(
    flags: &ServerFlags,
    path: &Path,
    recovered: Recovered,
    options: Options,
) -> Result<Prepared, Failure> {
    let mut config = config(flags, recovered.charter()?.terms.run)?;
    let (terms, quorum) = (config.terms.clone(), config.quorum);
    let saved = recovered.saved(config.ring_bytes)?;
    if recovered.clean && saved.position.round.0 >= terms.rounds {
        // Whoever could be told that the run is over has been.
        config.return_grace = Duration::ZERO;
    }
    let position = saved.position;
    let election = Server::resume(Duration::ZERO, config, saved).map_err(|error| match error {
        signvote_election::Error::Incompatible { .. } => Failure::usage(format!(
            "--resume {}: the settings are not those that the run began with; pass none that are in its config.toml but \
             --listen and those under \"Serving\"",
            path.display()
        )),
        error => error.into(),
    })?;
    let mut notices = recovered.notices.clone();
    if let Some(torn) = &recovered.torn {
        let (bytes, file) = (torn.bytes, torn.path.display());
        notices.push(format!(
            "the last {bytes} bytes of {file} were not written whole ({}) and are cut off",
            torn.reason
        ));
    }
    let how = if recovered.nothing_lost() && recovered.torn.is_some() {
        "no round that is whole in it is lost".to_owned()
    } else if recovered.nothing_lost() {
        "nothing is lost".to_owned()
    } else {
        "rounds may be lost, so that workers that are ahead take this server's state".to_owned()
    };
    let (snapshot, records) = (recovered.base.round(), recovered.records);
    let reason = format!("from the snapshot of round {snapshot} and {records} rounds of the log: {how}");
    notices.push(format!("goes on at round {} {reason}", position.round));
    let resumed = Event::Resumed { round: position.round, incarnation: position.incarnation.0, reason };
    let store = Store::Ledger(Box::new(recovered.resume(options)?));
    let average = average_at(&RunDirectory::made_by_another(path), snapshot);
    Ok(Prepared { election, terms, quorum, store, resumed: Some(resumed), average, notices })
}

/// The run of `train` that this worker's checkpoint is of, all of whose workers stand where it does.
fn restore(flags: &ServerFlags, path: &Path, directory: &RunDirectory) -> Result<Prepared, Failure> {
    let Some(WorkerCheckpoint { standing, x, .. }) = load_checkpoint(path)? else {
        return Err(Failure::new(Exit::Data, format!("{} is gone", path.display())));
    };
    let mut config = config(flags, standing.run)?;
    // All of them are started now, and what they made of the next round without one would be another run.
    config.return_grace = RESTARTING;
    let (terms, quorum) = (config.terms.clone(), config.quorum);
    let SavedModel { layout, settings, .. } = load_model(&directory.model())?;
    let charter = Charter {
        terms: terms.clone(),
        tie: config.tie,
        min_voters: config.min_voters,
        quorum: quorum as u32,
        layout,
        settings,
    };
    let Standing { round, incarnation, chain, .. } = standing;
    let position = Position { round, incarnation, chain };
    let saved = Saved { charter, x, position, records: Vec::new(), members: Vec::new() };
    let election = Server::resume(Duration::ZERO, config, saved)?;
    let reason = "from the checkpoints of all workers".to_owned();
    let notices = vec![format!("goes on at round {round} {reason}")];
    let resumed = Some(Event::Resumed { round, incarnation: incarnation.0, reason });
    let average = average_at(directory, round);
    Ok(Prepared { election, terms, quorum, store: Store::Model, resumed, average, notices })
}

/// The average of a run's parameters as it was after so many rounds; empty where it is not known, and begins anew.
fn average_at(directory: &RunDirectory, round: Round) -> Vec<f32> {
    let kept = [directory.ema(), directory.average(), previous_of(&directory.average())];
    let mut kept = kept.iter().filter_map(|path| load_model(path).ok());
    kept.find(|saved| saved.round == round).map_or_else(Vec::new, |saved| saved.x)
}

/// The election's configuration.
fn config(flags: &ServerFlags, run: RunId) -> Result<Config, Failure> {
    let serving = &flags.serving;
    // Whoever starts workers beside the server wants one seed to give one model.
    let deadline = if flags.lifeline { Deadline::Never } else { Deadline::Auto };
    let mut config = flags.rules.config_with(flags.rounds, run, deadline)?;
    config.terms.signed = serving.tls.is_some() && config.terms.aggregate == AggregateKind::Vote;
    config.second = match serving.same_identity {
        SameIdentity::Replace => SecondConnection::Replaces,
        SameIdentity::Refuse => SecondConnection::IsRefused,
    };
    config.ring_bytes = usize::try_from(u64::from(serving.ring_mib) * MIB).unwrap_or(usize::MAX);
    config.record_ballots = serving.record_ballots;
    random(&mut config.secret);
    config.return_grace = seconds("return-grace", serving.return_grace, true)?;
    config.votes_every = TRAFFIC_EVERY;
    Ok(config)
}

/// What this process is told, from now on: first to stop in order, then at once. The end of a lifeline ends the run, because
/// nobody is there to resume it.
fn stops(lifeline: bool, patience: Duration, stopped: Arc<AtomicBool>) -> mpsc::UnboundedReceiver<Stop> {
    let (tell, stops) = mpsc::unbounded_channel();
    let mut told = Box::pin(told_to_stop(lifeline));
    tokio::spawn(async move {
        loop {
            let reason = told.await;
            stopped.store(true, Relaxed);
            if lifeline {
                let _ = tell.send(Stop::Finish { reason });
                return;
            }
            // Caught from here on, before anyone can have seen what the first one did.
            told = Box::pin(told_to_stop(false));
            if tell.send(Stop::Pause { reason, patience }).is_err() {
                return;
            }
        }
    });
    stops
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

/// A run id that no other run has.
fn new_run_id() -> RunId {
    let mut id = [0; 16];
    random(&mut id);
    RunId(id)
}

/// Hashes under keys that the standard library draws at random, 8 bytes each.
pub(crate) fn random(bytes: &mut [u8]) {
    for part in bytes.chunks_mut(8) {
        let hash = RandomState::new().build_hasher().finish().to_le_bytes();
        part.copy_from_slice(&hash[..part.len()]);
    }
}
