//! `signvote worker`: one worker's part in a run.

use std::path::{Path, PathBuf};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use signvote_byzantine::{Attack, Draw};
use signvote_election::{Carried, Exchange, Greeting, Position, SecretKey, Settings, Slot, Terms};
use signvote_learn::{
    Dataset, Engine, GradientRule, LocalEngines, Model, Outgoing, Snapshot, Trainer, load, set_threads,
};
use signvote_net::tls::{Connector, Credentials};
use signvote_net::{Client, Connect, LocalShard, ShardThread};
use signvote_observe::{Standing, WorkerCheckpoint, load_checkpoint, load_tensors, save_checkpoint};

use super::shard::{self, Door};
use crate::exit::{Exit, Failure};
use crate::flags::{IdentityFlags, WorkerFlags};
use crate::processes::exit_when_told;
use crate::progress;
use crate::rules::seconds;

pub(crate) fn run(flags: &WorkerFlags) -> Result<Exit, Failure> {
    let voters = Voter::all(flags)?;
    let connect = Connect {
        address: flags.connect.clone(),
        patience: seconds("patience", flags.patience, true)?,
        reconnect: seconds("reconnect", flags.reconnect, true)?,
        tls: connector(&flags.identity)?,
    };
    flags.learn.check()?;
    let attack = flags.attack.attack()?;
    voters.iter().filter_map(|voter| voter.checkpoint.as_deref()).try_for_each(can_be_kept)?;
    exit_when_told(flags.lifeline)?;
    set_threads(usize::from(flags.learn.threads) * voters.len())?;
    let data = load(&flags.learn.wanted())?.train;
    let model = flags.learn.model.model(data.shape())?;
    let shard = flags.shard_listen.as_deref().map(|listen| {
        let door = Door {
            flag: "shard-listen",
            listen,
            address: flags.shard_address.as_deref(),
            insecure: flags.insecure,
        };
        let name = flags.name.clone().unwrap_or_else(default_name);
        shard::start(connect.clone(), door, &flags.identity, flags.run, name)
    });
    let shard = shard.transpose()?;
    let local = shard.as_ref().map(ShardThread::local);
    let exit = vote_all(&Shared { flags, connect, local, attack, data, model }, &voters)?;
    if let Some(shard) = shard {
        // The others may be behind, and what they lack comes from here.
        shard.join()?;
    }
    Ok(exit)
}

fn vote_all(shared: &Shared<'_>, voters: &[Voter]) -> Result<Exit, Failure> {
    if let [voter] = voters {
        return vote(shared, voter);
    }
    // One that fails, because its gradients diverge, say, leaves the others their votes: the process fails when all have
    // ended.
    let mut outcomes = thread::scope(|scope| {
        let threads = voters.iter().map(|voter| {
            let cast = move || {
                let outcome = vote(shared, voter);
                if let Err(failure) = &outcome {
                    tracing::warn!(voter = voter.number, reason = %failure, "a local worker has ended");
                }
                outcome
            };
            let builder = thread::Builder::new().name(format!("voter-{}", voter.number));
            builder.spawn_scoped(scope, cast).map_err(|e| Failure::internal("cannot start a thread", &e))
        });
        let threads: Vec<_> = threads.collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(|thread| thread.and_then(join)).collect::<Vec<_>>()
    });
    let failed = outcomes.iter().position(Result::is_err);
    outcomes.swap_remove(failed.unwrap_or(0))
}

/// What all that vote in this process have in common.
struct Shared<'a> {
    flags: &'a WorkerFlags,
    connect: Connect,
    /// The way to the shard of this process, if it has one.
    local: Option<LocalShard>,
    attack: Option<Attack>,
    data: Dataset,
    model: Model,
}

/// Who casts a ballot of its own.
struct Voter {
    /// From 1; 0 where it is the only one of its process.
    number: u16,
    name: String,
    slot: Option<Slot>,
    checkpoint: Option<PathBuf>,
}

impl Voter {
    /// Everyone who votes in this process.
    fn all(flags: &WorkerFlags) -> Result<Vec<Self>, Failure> {
        let name = flags.name.clone().unwrap_or_else(default_name);
        let (count, checkpoint) = (flags.local.voters(), &flags.checkpoint);
        if count == 1 {
            let slot = flags.slot.and_then(Slot::new);
            return Ok(vec![Self { number: 0, name, slot, checkpoint: checkpoint.clone() }]);
        }
        if flags.identity.tls.is_some() {
            let message = "--cast each gives every local worker a vote, and --identity is one name, which has one vote: \
                           start a worker for each name, or --cast together";
            return Err(Failure::usage(message));
        }
        if flags.slot.is_some_and(|slot| slot.checked_add(count - 1).is_none()) {
            let message = format!("--local {count} takes places from --slot on: there are not so many");
            return Err(Failure::usage(message));
        }
        let voter = |number: u16| Self {
            number,
            name: format!("{name}-{number}"),
            slot: flags.slot.and_then(|slot| Slot::new(slot + number - 1)),
            checkpoint: checkpoint.as_ref().map(|path| file_of_voter(path, number)),
        };
        Ok((1..=count).map(voter).collect())
    }
}

/// What its lines for people begin with.
impl std::fmt::Display for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            0 => Ok(()),
            number => write!(f, "local worker {number}: "),
        }
    }
}

/// One voter's part in a run.
fn vote(shared: &Shared<'_>, voter: &Voter) -> Result<Exit, Failure> {
    let Shared { flags, connect, local, attack, data, model } = shared;
    let say = |text: &str| {
        if !flags.quiet {
            progress::line(&format!("{voter}{text}"));
        }
    };
    let layout = model.layout()?;

    let checkpoint = match &voter.checkpoint {
        Some(path) => load_checkpoint(path)?.map(|checkpoint| (path, checkpoint)),
        None => None,
    };
    let greeting = Greeting {
        layout: layout.clone(),
        settings: settings(flags)?,
        run: flags.run,
        slot: voter.slot.or(checkpoint.as_ref().map(|(_, it)| it.standing.slot)),
        name: voter.name.clone(),
        key: connect.tls.as_ref().map(|tls| SecretKey::from_seed(tls.signing_key().seed())),
        statistics: !model.statistics().is_empty(),
    };
    let carried = checkpoint.as_ref().map(|(_, WorkerCheckpoint { standing, x, .. })| Carried {
        run: standing.run,
        position: Position {
            round: standing.round,
            incarnation: standing.incarnation,
            chain: standing.chain,
        },
        x: x.clone(),
    });
    let waiting = |reason: &str| say(&format!("waiting: {reason}"));
    let file = flags.learn.init.as_deref();
    let file = file.map(|path| load_tensors(path, layout.tensors())).transpose()?;
    let initial = |terms: &Terms| file.clone().unwrap_or_else(|| model.initial(terms.seed));
    let client = Client::connect_beside(local.clone(), connect, greeting, carried, initial, waiting);
    let mut client = client.map_err(|error| {
        let failure = Failure::from(error);
        match &checkpoint {
            Some((path, WorkerCheckpoint { standing, .. })) if failure.exit == Exit::Refused => {
                let hint =
                    format!("{} is of run {}: move it away to join another", path.display(), standing.run);
                Failure::new(failure.exit, format!("{failure}; {hint}"))
            }
            _ => failure,
        }
    })?;
    let terms = client.terms().clone();
    let partition = terms.settings.value("partition").unwrap_or("unnamed").parse();
    let partition = partition.map_err(|error: signvote_learn::Error| {
        Failure::new(
            Exit::Refused,
            format!("this worker does not know how the run shares its data out: {error}"),
        )
    })?;
    let slot = client.slot();
    // Always on, so that each line of a worker's log says whose it is.
    let _whose = tracing::error_span!("worker", slot = slot.number()).entered();
    tracing::info!(run = %terms.run, workers = terms.workers, kernels = signvote_kernels::Isa::reason(), "joined the run");
    // There is one bar, which the first draws; all take the same rounds.
    let draws = voter.number <= 1;
    let bar = if draws { bar(flags.quiet, terms.rounds) } else { ProgressBar::hidden() };
    say(&format!("joined run {} as worker {slot} of {}", terms.run, terms.workers));
    if draws {
        say(&progress::kernels());
    }

    flags.local.check_data(terms.workers, terms.batch, flags.learn.data, data.len())?;
    let rule = GradientRule::read(&terms.settings);
    let rule = rule.map_err(|error| {
        Failure::new(Exit::Refused, format!("this worker cannot do what the run asks for: {error}"))
    })?;
    let engine = engine(flags, model, rule.label_smoothing)?;
    let mut trainer = Trainer::new(engine, data, layout.clone(), partition, &client)?;
    if let Some(attack) = attack {
        trainer = trainer.tampered(lie(*attack, terms.seed, slot));
    }
    if let Some((path, checkpoint)) = checkpoint {
        checkpoint.fits(path, terms.run, terms.seed, slot, &layout)?;
        say(&format!("goes on from {}, of round {}", path.display(), checkpoint.standing.round));
        trainer.restore_momentum(checkpoint.momentum)?;
    }
    if let Some(path) = &voter.checkpoint {
        trainer = trainer.between_rounds(keep(path.clone(), flags, slot, layout.digest()));
    }
    let outcome = trainer.run(&mut client, &mut |round, loss| {
        bar.set_position(round.0 + 1);
        bar.set_message(format!("loss {:.3}", loss.mean_loss));
        tracing::debug!(round = round.0, loss = loss.mean_loss, accuracy = loss.accuracy(), "voted");
    });
    if draws {
        progress::bar_is(None);
    }
    bar.finish_and_clear();
    let summary = outcome?;
    if let Some(reason) = &summary.without_statistics {
        tracing::warn!(reason, "the server has no running statistics from this worker");
    }
    tracing::info!(rounds = summary.rounds.0, reason = summary.reason, "the run is over");
    say(&format!("the run is over after {} rounds: {}", summary.rounds, summary.reason));
    Ok(Exit::Success)
}

/// What one ballot is computed with.
fn engine(flags: &WorkerFlags, model: &Model, smoothing: f32) -> Result<Box<dyn Engine>, Failure> {
    let count = flags.local.averaged();
    let kind = flags.learn.engine;
    if count == 1 {
        return Ok(kind.smoothed(model, smoothing)?);
    }
    let locals = (0..count).map(|_| kind.smoothed(model, smoothing)).collect::<Result<Vec<_>, _>>()?;
    let engines = LocalEngines::new(locals, usize::from(flags.learn.threads));
    Ok(Box::new(engines.map_err(|error| Failure::usage(format!("--local {count}: {error}")))?))
}

/// Who this worker is, and whom it takes for the server.
pub(crate) fn connector(flags: &IdentityFlags) -> Result<Option<Connector>, Failure> {
    let (Some(directory), Some(name)) = (&flags.tls, &flags.identity) else { return Ok(None) };
    let credentials = Credentials::load(directory, name.as_str())?;
    Ok(Some(Connector::new(&credentials)?))
}

/// A wrong path is better found now than after the first hundred rounds.
fn can_be_kept(path: &Path) -> Result<(), Failure> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if directory.is_dir() {
        return Ok(());
    }
    let message =
        format!("cannot write --checkpoint {}: {} is no directory", path.display(), directory.display());
    Err(Failure::new(Exit::Files, message))
}

/// Writes a checkpoint every so many rounds. One that cannot be written is told, and costs no round: the worker
/// can vote without.
fn keep(path: PathBuf, flags: &WorkerFlags, slot: Slot, layout: [u8; 32]) -> impl FnMut(Snapshot<'_>) {
    let (every, previous) = (flags.checkpoint_every, flags.checkpoint_previous);
    let mut last = None;
    move |Snapshot { round, momentum, exchange }| {
        let since = *last.get_or_insert(round.0);
        if round.0.saturating_sub(since) < every {
            return;
        }
        last = Some(round.0);
        let (terms, Position { incarnation, chain, .. }) = (exchange.terms(), exchange.position());
        let standing = Standing { run: terms.run, slot, layout, seed: terms.seed, round, incarnation, chain };
        if previous {
            // There is none before the first.
            let _ = std::fs::rename(&path, previous_of(&path));
        }
        if let Err(error) = save_checkpoint(&path, &standing, exchange.parameters(), momentum) {
            tracing::error!(round = round.0, "the checkpoint was not written: {error}");
        }
    }
}

/// Where the checkpoint before the newest is.
pub(crate) fn previous_of(path: &Path) -> PathBuf {
    path.with_added_extension("previous")
}

/// The file of one of several voters of a process.
pub(crate) fn file_of_voter(path: &Path, number: u16) -> PathBuf {
    path.with_added_extension(number.to_string())
}

/// What the server is to remember with the model.
fn settings(flags: &WorkerFlags) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    settings.insert("model", flags.learn.model.to_string())?;
    settings.insert("data", flags.learn.data.to_string())?;
    if let Some(context) = flags.learn.context {
        settings.insert("context", context.to_string())?;
    }
    Ok(settings)
}

/// An adversary's changes to what it sends.
fn lie(attack: Attack, seed: u64, slot: Slot) -> impl FnMut(Outgoing<'_>) {
    move |outgoing| match outgoing {
        Outgoing::Ballot { round, coordinates, signs, abstain } => {
            let first_coordinate = coordinates.start as u64;
            let draw = Draw { seed, round: round.0, slot: slot.number(), first_coordinate };
            attack.on_ballot(signs, abstain, coordinates.len(), draw);
        }
        Outgoing::Gradient { round, gradient: values } | Outgoing::Statistics { round, values } => {
            let draw = Draw { seed, round: round.0, slot: slot.number(), first_coordinate: 0 };
            attack.on_gradient(values, draw);
        }
    }
}

pub(crate) fn default_name() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}", if host.is_empty() { "worker" } else { host }, std::process::id())
}

fn bar(quiet: bool, rounds: u64) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rounds  {msg}");
    // The template is fixed; a wrong one would only cost the bar its looks.
    let bar = ProgressBar::new(rounds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress::bar_is(Some(&bar));
    bar
}
