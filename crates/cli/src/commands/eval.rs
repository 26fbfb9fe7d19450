//! `signvote eval`: how good a run's model is on data that it was not trained on.

use std::path::Path;

use serde::Serialize;
use signvote_election::Round;
use signvote_learn::{BurnEngine, DataSource, Dataset, Loss, ModelKind, evaluate, load, set_threads};
use signvote_observe::{RunDirectory, SavedModel, load_model};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::EvalFlags;
use crate::progress::{grouped, number, percent};

#[derive(Serialize)]
struct Evaluation {
    test_accuracy: f64,
    /// `null` if not finite.
    test_loss: Option<f32>,
    samples: usize,
    rounds: u64,
    model: String,
    data: String,
}

pub(crate) fn run(flags: &EvalFlags) -> Result<Exit, Failure> {
    let directory = RunDirectory::open(&flags.run_dir)?;
    let saved = load_model(&directory.model())?;
    let source: DataSource = match flags.data {
        Some(source) => source,
        None => noted(&saved, "data", "--data")?.parse()?,
    };
    let threads = flags.threads.map_or_else(available_threads, usize::from);
    set_threads(threads)?;
    let test = load(&source, flags.data_dir.as_deref())?.test;
    let (_, loss) = evaluate_file(&directory.model(), &test)?;
    let evaluation = Evaluation {
        test_accuracy: loss.accuracy(),
        test_loss: finite(loss.mean_loss),
        samples: loss.samples,
        rounds: saved.round.0,
        model: noted(&saved, "model", "a model's name")?.to_owned(),
        data: source.to_string(),
    };
    if flags.json {
        let json = serde_json::to_string(&evaluation)
            .map_err(|error| Failure::internal("cannot write the result", &error))?;
        print(&json);
    } else {
        print(&format!(
            "{} of {} images of {}, loss {}, after {} rounds",
            percent(Some(evaluation.test_accuracy)),
            grouped(evaluation.samples as u64),
            evaluation.data,
            number(evaluation.test_loss, 3),
            grouped(evaluation.rounds)
        ));
    }
    Ok(Exit::Success)
}

/// Evaluates a model file. Returns the rounds that made it, too.
pub(crate) fn evaluate_file(path: &Path, test: &Dataset) -> Result<(Round, Loss), Failure> {
    let saved = load_model(path)?;
    let kind: ModelKind = noted(&saved, "model", "a model's name")?.parse()?;
    if kind.layout()? != saved.layout {
        let d = saved.layout.dimension();
        let message = format!(
            "{} does not hold a {kind}: its {d} parameters are named or shaped otherwise",
            path.display()
        );
        return Err(Failure::new(Exit::Data, message));
    }
    let loss = evaluate(&mut BurnEngine::new(kind), &saved.x, test)?;
    Ok((saved.round, loss))
}

/// A loss as JSON has it.
pub(crate) fn finite(loss: f32) -> Option<f32> {
    Some(loss).filter(|loss| loss.is_finite())
}

fn noted<'a>(saved: &'a SavedModel, key: &str, instead: &str) -> Result<&'a str, Failure> {
    saved.settings.value(key).ok_or_else(|| {
        Failure::new(Exit::Data, format!("the model file does not say its {key}; it needs {instead}"))
    })
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
