//! `signvote`: train neural networks by majority vote, with workers that may fail or lie.
//!
//! The binary is flags, processes, progress and exit codes; everything else is in the library crates.
//! Results go to stdout, progress and errors to stderr.
#![forbid(unsafe_code)]

mod commands;
mod exit;
mod flags;
mod layers;
mod processes;
mod progress;
mod rules;
mod summary;

use std::process::ExitCode;

use flags::{BenchCommand, Command};

fn main() -> ExitCode {
    let outcome = layers::parse().and_then(|cli| match cli.command {
        Command::Train(flags) => commands::train::run(&flags),
        Command::Server(flags) => commands::server::run(&flags),
        Command::Worker(flags) => commands::worker::run(&flags),
        Command::Eval(flags) => commands::eval::run(&flags),
        Command::Bench(BenchCommand::Kernels(flags)) => commands::bench::run(&flags),
        Command::Certs(command) => commands::certs::run(&command),
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            progress::error(&failure);
            failure.exit.into()
        }
    }
}
