//! The commands.

use std::io::Write;
use std::path::{Path, PathBuf};

use signvote_observe::RunDirectory;

use crate::exit::{Exit, Failure};

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod bench_exchange;
pub(crate) mod certs;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod find_rate;
pub(crate) mod models;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod reproduce;
mod runs;
pub(crate) mod server;
pub(crate) mod shard;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod train;
pub(crate) mod view;
pub(crate) mod worker;

/// Prints a result on stdout. Who reads it may be gone: that is no reason to end a run with a panic.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Where the model of a run that was ended early is, if there is one.
fn model_so_far(directory: &RunDirectory) -> String {
    if directory.model().exists() {
        format!("the model so far is in {}", directory.path().display())
    } else {
        "there is no model yet".into()
    }
}

/// The directory that was asked for, or the first free one of runs/1, runs/2, ….
fn run_directory(asked: Option<&Path>) -> Result<RunDirectory, Failure> {
    if let Some(path) = asked {
        return Ok(RunDirectory::create(path)?);
    }
    let cannot = |path: &Path, error: std::io::Error| {
        Failure::new(Exit::Files, format!("cannot make {}: {error}; pass --run-dir", path.display()))
    };
    let runs = PathBuf::from("runs");
    std::fs::create_dir_all(&runs).map_err(|error| cannot(&runs, error))?;
    for number in 1_u32.. {
        let path = runs.join(number.to_string());
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(RunDirectory::create(path)?),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot(&path, error)),
        }
    }
    Err(Failure::new(Exit::Files, "every name under runs/ is taken; pass --run-dir"))
}

/// Writes `config.toml`: the settings of the run, in the words of the command line.
fn write_config(
    directory: &RunDirectory,
    flags: &impl serde::Serialize,
    command: &str,
) -> Result<(), Failure> {
    let text = config_text(flags, command)?;
    Ok(signvote_observe::replace_file(&directory.config(), |out| out.write_all(text.as_bytes()))?)
}

/// The settings as a file that `--config` takes.
fn config_text(flags: &impl serde::Serialize, command: &str) -> Result<String, Failure> {
    let settings =
        toml::to_string(flags).map_err(|error| Failure::internal("cannot write the settings", &error))?;
    Ok(format!("# signvote {command} --config THIS_FILE does the same again.\n{settings}"))
}
