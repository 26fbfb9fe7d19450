//! Whether all is well with a run, in words.

use signvote_election::{WorkerState, decision};

use crate::snapshot::{Health, Level, Phase, Snapshot, Worker};

/// Names that are listed before it is said how many more there are.
const MOST_NAMES: usize = 8;

/// What is to be said of a run before anything else; `diverges`: a loss of late was not finite.
pub(crate) fn health(run: &Snapshot, diverges: bool) -> Health {
    let places = run.workers.len();
    let apart: Vec<&Worker> = run.workers.iter().filter(|worker| worker.apart).collect();
    let known = run.workers.iter().filter(|worker| worker.agreement.is_some()).count();
    let mut more = Vec::new();
    let (mut level, words) = if !apart.is_empty() {
        let (voters, tolerated) = (run.voters, decision::tolerated_liars(run.voters as usize));
        let bound = format!("a vote of {voters} outvotes up to {tolerated} blind liars");
        more.push(if apart.len() > tolerated {
            format!("They still vote, and are more than the vote survives: {bound}.")
        } else {
            format!("They still vote, and are outvoted: {bound}.")
        });
        let are = if apart.len() == 1 { "is" } else { "are" };
        (Level::Bad, format!("{} of {places} workers {are} set apart: {}.", apart.len(), names(&apart)))
    } else if run.rule.limit.is_some() {
        let all = if known == places { format!("All {known}") } else { format!("The {known} of {places}") };
        (Level::Good, format!("{all} workers vote like each other."))
    } else {
        let here = run.workers.iter().filter(|worker| worker.state != WorkerState::Away).count();
        let there = match run.phase {
            Phase::Gathering => format!("{here} of {places} workers are there."),
            _ => "It is too early to say whether a worker lies.".into(),
        };
        (Level::Wait, there)
    };
    if diverges {
        level = Level::Bad;
        more.push("The training loss is not finite.".into());
    }
    // After the last round everybody goes, which is no failure.
    if run.phase == Phase::Running && run.round < run.rounds {
        let states = [
            (WorkerState::Away, "away"),
            (WorkerState::Behind, "behind"),
            (WorkerState::NotAwaited, "late and not waited for"),
        ];
        for (state, what) in states {
            let so: Vec<_> = run.workers.iter().filter(|it| it.state == state).collect();
            if !so.is_empty() {
                level = Level::Bad;
                let are = if so.len() == 1 { "is" } else { "are" };
                more.push(format!("{} {are} {what}: {}.", so.len(), names(&so)));
            }
        }
    }
    if run.phase == Phase::Paused {
        level = Level::Bad;
        more.push("The server has stopped, and the run can be resumed.".into());
    }
    Health { level, words, more: more.join(" ") }
}

fn names(workers: &[&Worker]) -> String {
    let name = |worker: &&Worker| match worker.name.as_str() {
        "" => format!("place {}", worker.slot),
        name => name.to_owned(),
    };
    let mut text = workers.iter().take(MOST_NAMES).map(name).collect::<Vec<_>>().join(", ");
    if workers.len() > MOST_NAMES {
        text += &format!(" and {} more", workers.len() - MOST_NAMES);
    }
    text
}
