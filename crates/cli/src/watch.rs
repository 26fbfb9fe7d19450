//! A run as it is watched: a board that takes in its events, the page and the terminal that show it, and the files for TensorBoard.

use std::net::SocketAddr;
use std::path::Path;

use signvote_dashboard::{Dashboard, Entrance, Token};
use signvote_election::{Event, hexadecimal};
use signvote_observe::{Board, Live, RunDirectory, Scalars, now};

use crate::commands::server::random;
use crate::exit::Failure;
use crate::flags::WatchFlags;
use crate::progress;
use crate::tui::Screen;

/// How a run will be watched: what can go wrong has, before there are files of the run.
pub(crate) struct Plan {
    entrance: Option<Entrance>,
    /// Whether nobody could know where the page is if it were not said.
    secret: bool,
    tui: bool,
}

impl Plan {
    /// Takes the page's address.
    pub(crate) fn make(flags: &WatchFlags) -> Result<Self, Failure> {
        let entrance = match flags.dashboard {
            Some(address) => Some(open(address, flags.dashboard_token.clone())?),
            None => None,
        };
        let chosen = |address: SocketAddr| address.ip().is_loopback() || flags.dashboard_token.is_some();
        let secret = flags.dashboard.is_some_and(|address| address.port() == 0 || !chosen(address));
        Ok(Self { entrance, secret, tui: flags.tui })
    }
}

/// What watches a run.
pub(crate) struct Watch {
    /// If anybody looks.
    live: Option<Live>,
    scalars: Option<TensorBoard>,
    dashboard: Option<Dashboard>,
    screen: Option<Screen>,
}

impl Watch {
    /// Watches the run whose files are in `directory`; of one that goes on, with what has happened so far.
    pub(crate) fn start(plan: Plan, directory: &RunDirectory, quiet: bool) -> Result<Self, Failure> {
        let scalars = Some(TensorBoard::new(directory));
        if plan.entrance.is_none() && !plan.tui {
            return Ok(Self { live: None, scalars, dashboard: None, screen: None });
        }
        let mut board = new_board(directory);
        if directory.events().exists() {
            // What is shown is not worth a run that goes on.
            let read = directory
                .event_reader()
                .and_then(|mut events| events.read(|time, event| board.take(time, &event)));
            if let Err(error) = read {
                tracing::error!(%error, "what happened before cannot be shown");
            }
        }
        let live = Live::new(board);
        let mut note = String::new();
        let mut dashboard = None;
        if let Some(entrance) = plan.entrance {
            note = format!("the page is at {}", entrance.url());
            match quiet {
                false => progress::line(&note),
                true if plan.secret => tracing::warn!("{note}"),
                true => {}
            }
            dashboard = Some(entrance.serve(live.clone(), Some(directory.path().to_owned()))?);
        }
        let screen = if plan.tui { Screen::open(live.clone(), note)? } else { None };
        Ok(Self { live: Some(live), scalars, dashboard, screen })
    }

    /// Takes in what has just happened.
    pub(crate) fn take(&mut self, event: &Event) {
        if let Some(live) = &self.live {
            live.take(event);
        }
        let Some(scalars) = &mut self.scalars else { return };
        if let Err(failure) = scalars.take(event) {
            // Pictures are not worth a run.
            tracing::error!(%failure, "nothing more is written for TensorBoard");
            self.scalars = None;
        }
    }

    /// Gives the terminal back: what is printed from now on is to be seen.
    pub(crate) fn leave_screen(&mut self) {
        self.screen.take();
    }

    /// Ends it: who looks sees how the run ended.
    pub(crate) fn close(mut self) {
        self.leave_screen();
        if let Some(dashboard) = self.dashboard {
            dashboard.close();
        }
    }
}

/// A board that knows what a run's directory says of it.
pub(crate) fn new_board(directory: &RunDirectory) -> Board {
    // One that is not there yet, or cannot be read, says nothing.
    let config = std::fs::read_to_string(directory.config()).unwrap_or_default();
    Board::new(title_of(&config, directory.path()), config)
}

/// What a run is, in a few words.
fn title_of(config: &str, path: &Path) -> String {
    let table: toml::Table = config.parse().unwrap_or_default();
    let word = |key: &str| table.get(key).and_then(|value| value.as_str());
    let what = match (word("model"), word("data")) {
        (Some(model), Some(data)) => format!("{model} on {data}, "),
        _ => String::new(),
    };
    let how = match word("aggregate") {
        Some("mean") => "mean of gradients",
        _ => "majority vote",
    };
    format!("{what}{how} ({})", path.display())
}

/// Takes the address of a page; beyond loopback with a token, made up if none is given.
pub(crate) fn open(address: SocketAddr, token: Option<Token>) -> Result<Entrance, Failure> {
    let token = match token {
        None if !address.ip().is_loopback() => {
            let mut bytes = [0; 16];
            random(&mut bytes);
            Some(hexadecimal(&bytes).parse::<Token>()?)
        }
        token => token,
    };
    Ok(Entrance::open(address, token)?)
}

/// The scalars of a run: those of its rounds, and those on held-out data, which TensorBoard shows beside each other as two runs.
struct TensorBoard {
    directory: RunDirectory,
    train: Option<Scalars>,
    test: Option<Scalars>,
    flushed: f64,
}

/// How often they are handed to the system, in seconds.
const FLUSH_EVERY: f64 = 1.0;

impl TensorBoard {
    fn new(directory: &RunDirectory) -> Self {
        Self { directory: directory.clone(), train: None, test: None, flushed: now() }
    }

    /// A file is made when there is something to be written.
    fn scalars<'a>(
        file: &'a mut Option<Scalars>,
        directory: &RunDirectory,
        name: &str,
    ) -> Result<&'a mut Scalars, signvote_observe::Error> {
        match file {
            Some(scalars) => Ok(scalars),
            None => Ok(file.insert(Scalars::create(&directory.tensorboard().join(name))?)),
        }
    }

    fn take(&mut self, event: &Event) -> Result<(), signvote_observe::Error> {
        let time = now();
        let begun = self.train.is_some();
        let mut train = |round: u64, values: &[(&str, Option<f64>)]| {
            Self::scalars(&mut self.train, &self.directory, "train")?.write(time, round, values)
        };
        match event {
            Event::Committed { round, loss, accuracy, eta, voters, ties, holds, .. } => train(
                round.next().0,
                &[
                    ("loss", loss.map(f64::from)),
                    ("accuracy", accuracy.map(f64::from)),
                    ("learning_rate", Some(f64::from(*eta))),
                    ("voters", Some(*voters as f64)),
                    ("ties", Some(*ties as f64)),
                    ("holds", Some(*holds as f64)),
                ],
            )?,
            Event::Votes { round, workers, .. } => {
                let tags: Vec<_> =
                    workers.iter().map(|row| format!("agreement/worker_{}", row.slot)).collect();
                let values = tags.iter().zip(workers).map(|(tag, row)| (tag.as_str(), row.agreement));
                train(round.0, &values.collect::<Vec<_>>())?;
            }
            // Of a run without a round there is nothing to be drawn.
            Event::Traffic { round, workers } if begun => {
                let sum = |of: fn(&signvote_election::Traffic) -> u64| {
                    Some(workers.iter().map(of).sum::<u64>() as f64)
                };
                let up = sum(|row| row.round_up_bytes);
                train(round.0, &[("bytes/up", up), ("bytes/down", sum(|row| row.round_down_bytes))])?;
            }
            Event::Evaluated { round, test_loss, test_accuracy } => {
                let values = [("loss", test_loss.map(f64::from)), ("accuracy", Some(*test_accuracy))];
                Self::scalars(&mut self.test, &self.directory, "test")?.write(time, round.0, &values)?;
            }
            _ => {}
        }
        let over = matches!(event, Event::Finished { .. } | Event::Paused { .. } | Event::Evaluated { .. });
        if over || time - self.flushed > FLUSH_EVERY {
            self.flushed = time;
            for scalars in self.train.iter_mut().chain(&mut self.test) {
                scalars.flush()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_what_it_trains() {
        let path = Path::new("runs/1");
        assert_eq!(
            title_of("model = \"cnn\"\ndata = \"cifar-10\"\naggregate = \"vote\"", path),
            "cnn on cifar-10, majority vote (runs/1)"
        );
        assert_eq!(title_of("aggregate = \"mean\"", path), "mean of gradients (runs/1)");
        assert_eq!(title_of("", path), "majority vote (runs/1)");
    }
}
