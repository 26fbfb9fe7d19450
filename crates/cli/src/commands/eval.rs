//! `signvote eval`: how good a model is on data that it was not trained on.

use std::path::{Path, PathBuf};

use serde::Serialize;
use signvote_election::{DigestTree, Statistics};
use signvote_learn::{
    DataSource, EngineKind, Loss, Model, ModelKind, Shape, Split, Wanted, evaluate, load, running_statistics,
    set_threads,
};
use signvote_observe::{RunDirectory, SavedModel, load_model, load_statistics, load_tensors};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::EvalFlags;
use crate::progress::{grouped, number, percent};

#[derive(Serialize)]
struct Evaluation {
    test_accuracy: f64,
    /// `null` if not finite.
    test_loss: Option<f32>,
    /// Of a language model: exp(test_loss) per token.
    #[serde(skip_serializing_if = "Option::is_none")]
    perplexity: Option<f64>,
    samples: usize,
    /// Of a run's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounds: Option<u64>,
    model: String,
    data: String,
}

pub(crate) fn run(flags: &EvalFlags) -> Result<Exit, Failure> {
    let threads = flags.threads.map_or_else(available_threads, usize::from);
    set_threads(threads)?;
    let evaluation =
        if flags.model.is_file() { of_file(flags, &flags.model)? } else { of_run(flags, &flags.model)? };
    if flags.json {
        let json = serde_json::to_string(&evaluation)
            .map_err(|error| Failure::internal("cannot write the result", &error))?;
        print(&json);
    } else {
        let what = if evaluation.perplexity.is_some() { "tokens" } else { "images" };
        let perplexity = evaluation.perplexity.map_or_else(String::new, |it| format!(", perplexity {it:.2}"));
        let after = |rounds| format!(", after {} rounds", grouped(rounds));
        let rounds = evaluation.rounds.map_or_else(String::new, after);
        print(&format!(
            "{} of {} {what} of {}, loss {}{perplexity}{rounds}",
            percent(Some(evaluation.test_accuracy)),
            grouped(evaluation.samples as u64),
            evaluation.data,
            number(evaluation.test_loss, 3),
        ));
    }
    Ok(Exit::Success)
}

/// The model of a run, on the data that it was trained on unless another is named.
fn of_run(flags: &EvalFlags, path: &Path) -> Result<Evaluation, Failure> {
    if !path.exists() {
        return Err(Failure::new(Exit::Data, format!("{}: no such file or directory", path.display())));
    }
    let directory = RunDirectory::open(path)?;
    let saved = load_model(&directory.evaluated())?;
    let data = Data::of_run(&directory, &saved, flags.data, flags.data_dir.clone())?;
    let split = data.load()?;
    let loss = evaluate_model(&directory, &saved, &split, flags.engine)?;
    Ok(Evaluation::of(kind_of(&saved, &directory)?, &data, &split, loss, Some(saved.round.0)))
}

/// A file of safetensors with PyTorch's names. Where it has running statistics, these are used.
fn of_file(flags: &EvalFlags, path: &Path) -> Result<Evaluation, Failure> {
    let (Some(kind), Some(source)) = (flags.kind, flags.data) else {
        let message = format!("{} says neither model nor data: pass --model and --data", path.display());
        return Err(Failure::usage(message));
    };
    let context = flags.context.map(|tokens| tokens as usize);
    let data = Data(Wanted { source, directory: flags.data_dir.clone(), context });
    let split = data.load()?;
    let model = kind.model(split.test.shape())?;
    let x = load_tensors(path, model.layout()?.tensors())?;
    let mut engine = flags.engine.engine(&model)?;
    let statistics = match load_tensors(path, &model.statistics()) {
        Ok(statistics) => statistics,
        Err(_) => running_statistics(&mut *engine, &x, &split.train)?,
    };
    let loss = evaluate(&mut *engine, &x, &statistics, &split.test)?;
    Ok(Evaluation::of(kind, &data, &split, loss, None))
}

impl Evaluation {
    fn of(kind: ModelKind, data: &Data, split: &Split, loss: Loss, rounds: Option<u64>) -> Self {
        Self {
            test_accuracy: loss.accuracy(),
            test_loss: finite(loss.mean_loss),
            perplexity: perplexity(split, loss),
            samples: loss.samples,
            rounds,
            model: kind.to_string(),
            data: data.0.source.to_string(),
        }
    }
}

/// What a model is evaluated on.
pub(crate) struct Data(Wanted);

impl Data {
    /// What a run was trained on, or what is named instead.
    pub(crate) fn of_run(
        directory: &RunDirectory,
        saved: &SavedModel,
        source: Option<DataSource>,
        data_dir: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let source = match source {
            Some(source) => source,
            None => noted(saved, "data", "--data")?.parse().map_err(unknown(directory))?,
        };
        let context = noted_context(saved, directory)?;
        Ok(Self(Wanted { source, directory: data_dir.or_else(|| configured_data_dir(directory)), context }))
    }

    pub(crate) fn load(&self) -> Result<Split, Failure> {
        Ok(load(&self.0)?)
    }
}

/// Evaluates a run's model on held-out data.
pub(crate) fn evaluate_model(
    directory: &RunDirectory,
    saved: &SavedModel,
    split: &Split,
    engine: EngineKind,
) -> Result<Loss, Failure> {
    let mut engine = engine.engine(&model_of(directory, saved, split)?)?;
    let statistics = match statistics_of_workers(directory, saved)? {
        Some(Statistics { values, .. }) => values,
        None => running_statistics(&mut *engine, &saved.x, &split.train)?,
    };
    Ok(evaluate(&mut *engine, &saved.x, &statistics, &split.test)?)
}

/// The running statistics that the workers have sent, if they are of these parameters and as many as the model has: those of a run's final
/// model are, unless it keeps an average.
pub(crate) fn statistics_of_workers(
    directory: &RunDirectory,
    saved: &SavedModel,
) -> Result<Option<Statistics>, Failure> {
    let Some(statistics) = load_statistics(&directory.statistics())? else { return Ok(None) };
    let tensors = kind_of(saved, directory)?.usual().statistics();
    let count: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let fit = statistics.values.len() == count && statistics.digest == DigestTree::new(&saved.x).root();
    Ok(fit.then_some(statistics))
}

/// Which model was saved.
pub(crate) fn kind_of(saved: &SavedModel, directory: &RunDirectory) -> Result<ModelKind, Failure> {
    noted(saved, "model", "a model's name")?.parse().map_err(unknown(directory))
}

/// The model whose parameters were saved.
pub(crate) fn model_of(
    directory: &RunDirectory,
    saved: &SavedModel,
    split: &Split,
) -> Result<Model, Failure> {
    let kind = kind_of(saved, directory)?;
    let model = kind.model(split.test.shape())?;
    if model.layout()? != saved.layout {
        let (path, d) = (directory.model(), saved.layout.dimension());
        let differs = format!(
            "{} does not hold a {kind} for {}: its {d} parameters have other names or shapes",
            path.display(),
            model.shape()
        );
        return Err(Failure::new(Exit::Data, differs));
    }
    Ok(model)
}

/// exp(loss) of a language model; `None` for images, and where it is not finite.
pub(crate) fn perplexity(split: &Split, loss: Loss) -> Option<f64> {
    let is_text = matches!(split.test.shape(), Shape::Tokens { .. });
    Some(loss.perplexity()).filter(|perplexity| is_text && perplexity.is_finite())
}

/// The window that a language model was trained on.
fn noted_context(saved: &SavedModel, directory: &RunDirectory) -> Result<Option<usize>, Failure> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            let path = directory.model();
            Failure::new(Exit::Data, format!("{}: context {text:?} is no number", path.display()))
        })
    };
    saved.settings.value("context").map(parse).transpose()
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
