//! `signvote view`: the page of a run, from its directory.

use std::time::Duration;

use signvote_observe::{EventReader, Live, RunDirectory, Snapshot};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::ViewFlags;
use crate::processes::{runtime, told_to_stop};
use crate::progress;
use crate::tui::Screen;
use crate::watch::{new_board, open};

/// How often a run's log is looked at: it may still grow.
const FOLLOW: Duration = Duration::from_millis(500);

pub(crate) fn run(flags: &ViewFlags) -> Result<Exit, Failure> {
    let directory = RunDirectory::made_by_another(&flags.run_dir);
    let mut events = directory.event_reader()?;
    let live = Live::new(new_board(&directory));
    follow(&mut events, &live)?;
    if let Some(error) = events.damaged() {
        progress::line(&format!("warning: {error}; it is passed over"));
    }
    if flags.json {
        let files = directory.files().into_iter().map(str::to_owned).collect();
        let snapshot = Snapshot { files, ..live.snapshot() };
        let json = serde_json::to_string(&snapshot)
            .map_err(|error| Failure::internal("cannot write the snapshot", &error))?;
        print(&json);
        return Ok(Exit::Success);
    }
    let screen = if flags.tui { Screen::open(live.clone(), String::new())? } else { None };
    let _page = match &screen {
        Some(_) => None,
        None => {
            let entrance = open(flags.dashboard, flags.dashboard_token.clone())?;
            progress::line(&format!("the page is at {} until Ctrl-C", entrance.url()));
            Some(entrance.serve(live.clone(), Some(directory.path().to_owned()))?)
        }
    };
    runtime()?.block_on(async {
        let mut stop = std::pin::pin!(told_to_stop(false));
        loop {
            tokio::select! {
                _ = &mut stop => return Ok(Exit::Success),
                () = tokio::time::sleep(FOLLOW) => follow(&mut events, &live)?,
            }
            if screen.as_ref().is_some_and(Screen::is_left) {
                return Ok(Exit::Success);
            }
        }
    })
}

fn follow(events: &mut EventReader, live: &Live) -> Result<(), Failure> {
    Ok(events.read(|time, event| live.take_at(time, &event))?)
}
