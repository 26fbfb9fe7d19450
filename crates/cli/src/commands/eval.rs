//! `signvote eval`: how good a run's model is on data that it was not trained on.

use std::path::PathBuf;

use serde::Serialize;
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
        None => noted(&saved, "data", "--data")?.parse().map_err(unknown(&directory))?,
    };
    let threads = flags.threads.map_or_else(available_threads, usize::from);
    set_threads(threads)?;
    let data_dir = flags.data_dir.clone().or_else(|| configured_data_dir(&directory));
    let test = load(&source, data_dir.as_deref())?.test;
    let loss = evaluate_model(&directory, &saved, &test)?;
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

/// Evaluates a model on held-out data.
pub(crate) fn evaluate_model(
    directory: &RunDirectory,
    saved: &SavedModel,
    test: &Dataset,
) -> Result<Loss, Failure> {
    let kind: ModelKind = noted(saved, "model", "a model's name")?.parse().map_err(unknown(directory))?;
    if kind.layout()? != saved.layout {
        let (path, d) = (directory.model(), saved.layout.dimension());
        let differs = format!(
            "{} does not hold a {kind}: its {d} parameters have other names or shapes",
            path.display()
        );
        return Err(Failure::new(Exit::Data, differs));
    }
    Ok(evaluate(&mut BurnEngine::new(kind), &saved.x, test)?)
}

/// Where a run's own settings say that its data lies.
fn configured_data_dir(directory: &RunDirectory) -> Option<PathBuf> {
    let text = std::fs::read_to_string(directory.config()).ok()?;
    let settings: toml::Table = text.parse().ok()?;
    settings.get("data-dir")?.as_str().map(PathBuf::from)
}

/// A name in the model file that this version does not know: the file is at fault, not a flag.
fn unknown(directory: &RunDirectory) -> impl Fn(signvote_learn::Error) -> Failure {
    let path = directory.model();
    move |error| Failure::new(Exit::Data, format!("{}: {error}", path.display()))
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
