//! `signvote worker`: one worker's part in a run.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use signvote_byzantine::{Attack, Draw};
use signvote_election::{Exchange, Greeting, Settings, Slot};
use signvote_learn::{BurnEngine, Engine, Outgoing, Trainer, load, set_threads};
use signvote_net::{Client, Connect};

use crate::exit::{Exit, Failure};
use crate::flags::WorkerFlags;
use crate::processes::exit_when_told;
use crate::progress;
use crate::rules::LONGEST;

pub(crate) fn run(flags: &WorkerFlags) -> Result<Exit, Failure> {
    let patience =
        Duration::try_from_secs_f64(flags.patience)
            .ok()
            .filter(|patience| *patience <= LONGEST)
            .ok_or_else(|| Failure::usage(format!("--patience is 0 to 30 days, got {} s", flags.patience)))?;
    flags.learn.check()?;
    let attack = flags.attack.attack()?;
    exit_when_told(flags.lifeline)?;
    set_threads(usize::from(flags.learn.threads))?;
    let data = load(&flags.learn.data, flags.learn.data_dir.as_deref())?.train;
    let model = flags.learn.model;
    let layout = model.layout()?;

    let connect = Connect { address: flags.connect.clone(), patience };
    let greeting = Greeting {
        layout: layout.clone(),
        settings: settings(flags)?,
        run: flags.run,
        slot: flags.slot.and_then(Slot::new),
        name: flags.name.clone().unwrap_or_else(default_name),
    };
    let mut client = Client::connect(&connect, greeting, |terms| model.initial(terms.seed))?;
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
    let bar = bar(flags.quiet, terms.rounds);
    if !flags.quiet {
        progress::line(&format!("joined run {} as worker {slot} of {}", terms.run, terms.workers));
        progress::line(&progress::kernels());
    }

    let engine: Box<dyn Engine> = Box::new(BurnEngine::new(model));
    let mut trainer = Trainer::new(engine, &data, layout, partition, &client)?;
    if let Some(attack) = attack {
        trainer = trainer.tampered(lie(attack, terms.seed, slot));
    }
    let outcome = trainer.run(&mut client, &mut |round, loss| {
        bar.set_position(round.0 + 1);
        bar.set_message(format!("loss {:.3}", loss.mean_loss));
        tracing::debug!(round = round.0, loss = loss.mean_loss, accuracy = loss.accuracy(), "voted");
    });
    progress::bar_is(None);
    bar.finish_and_clear();
    let summary = outcome?;
    tracing::info!(rounds = summary.rounds.0, reason = summary.reason, "the run is over");
    if !flags.quiet {
        progress::line(&format!("the run is over after {} rounds: {}", summary.rounds, summary.reason));
    }
    Ok(Exit::Success)
}

/// What the server is to remember with the model.
fn settings(flags: &WorkerFlags) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    settings.insert("model", flags.learn.model.to_string())?;
    settings.insert("data", flags.learn.data.to_string())?;
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
        Outgoing::Gradient { round, gradient } => {
            let draw = Draw { seed, round: round.0, slot: slot.number(), first_coordinate: 0 };
            attack.on_gradient(gradient, draw);
        }
    }
}

fn default_name() -> String {
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
