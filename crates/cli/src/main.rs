//! `signvote`: train neural networks by majority vote, with workers that may fail or lie.
//!
//! The binary is flags, processes, progress and exit codes; everything else is in the library crates.
//! Results go to stdout, progress and errors to stderr.
#![forbid(unsafe_code)]

mod commands;
mod exit;
mod flags;
mod layers;
mod logs;
mod processes;
mod progress;
mod rules;
mod suiting;
mod summary;
mod tui;
mod watch;

use std::process::ExitCode;

use exit::{Exit, Failure};
use flags::{BenchCommand, Command};
use logs::LogFormat;

fn main() -> ExitCode {
    match run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            progress::error(&failure);
            failure.exit.into()
        }
    }
}

fn run() -> Result<Exit, Failure> {
    let mut cli = layers::parse()?;
    logs::start(&cli.logs)?;
    if cli.logs.log_format == LogFormat::Json {
        cli.command.be_quiet();
    }
    match cli.command {
        Command::Train(flags) => commands::train::run(&flags, cli.logs),
        Command::Server(flags) => commands::server::run(&flags),
        Command::Worker(flags) => commands::worker::run(&flags),
        Command::Shard(flags) => commands::shard::run(&flags),
        Command::Status(flags) => commands::status::run(&flags),
        Command::Doctor(flags) => commands::doctor::run(&flags),
        Command::Audit(flags) => commands::audit::run(&flags),
        Command::View(flags) => commands::view::run(&flags),
        Command::Report(flags) => commands::report::run(&flags),
        Command::Models(flags) => commands::models::run(&flags),
        Command::Eval(flags) => commands::eval::run(&flags),
        Command::FindRate(flags) => commands::find_rate::run(&flags),
        Command::Export(flags) => commands::export::run(&flags),
        Command::Bench(BenchCommand::Kernels(flags)) => commands::bench::run(&flags),
        Command::Bench(BenchCommand::Exchange(flags)) => commands::bench_exchange::run(&flags),
        Command::Plan(flags) => commands::plan::run(&flags),
        Command::Simulate(flags) => commands::simulate::run(&flags),
        Command::Reproduce(flags) => commands::reproduce::run(&flags),
        Command::Certs(command) => commands::certs::run(&command),
    }
}
