//! A run as it is watched: a board that takes in its events, the page and the terminal that show it, and the files for TensorBoard.

use std::net::SocketAddr;
use std::path::Path;

use signvote_dashboard::{Dashboard, Options, Token};
use signvote_election::Event;
use signvote_observe::{Board, Live, RunDirectory, Scalars, now};

use crate::commands::server::random;
use crate::exit::Failure;
use crate::flags::WatchFlags;
use crate::progress;
use crate::tui::Screen;

/// What watches a run.
pub(crate) struct Watch {
    live: Live,
    scalars: Option<TensorBoard>,
    dashboard: Option<Dashboard>,
    screen: Option<Screen>,
}

impl Watch {
    /// Watches the run whose files are in `directory`; of one that goes on, with what has happened so far.
    pub(crate) fn start(flags: &WatchFlags, directory: &RunDirectory, quiet: bool) -> Result<Self, Failure> {
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
        let dashboard = match flags.dashboard {
            Some(address) => Some(serve(&live, address, flags.dashboard_token.clone(), directory)?),
            None => None,
        };
        if let Some(page) = dashboard.as_ref().filter(|_| !quiet) {
            progress::line(&format!("the page is at {}", page.url()));
        }
        let screen = if flags.tui { Screen::open(live.clone())? } else { None };
        Ok(Self { live, scalars: Some(TensorBoard::new(directory)), dashboard, screen })
    }

    /// Takes in what has just happened.
    pub(crate) fn take(&mut self, event: &Event) {
        self.live.take(event);
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

/// Serves a run's page; beyond loopback with a token, made up if none is given.
pub(crate) fn serve(
    live: &Live,
    address: SocketAddr,
    token: Option<Token>,
    directory: &RunDirectory,
) -> Result<Dashboard, Failure> {
    let token = match token {
        None if !address.ip().is_loopback() => {
            let mut bytes = [0; 16];
            random(&mut bytes);
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(
                text.parse()
                    .map_err(|error: signvote_dashboard::Error| Failure::internal("no token", &error))?,
            )
        }
        token => token,
    };
    let options = Options { address, token, directory: Some(directory.path().to_owned()) };
    Ok(Dashboard::serve(live.clone(), options)?)
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
