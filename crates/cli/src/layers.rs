//! Where a setting comes from: the command line, else the environment, else `--config FILE`, else what suits the model, else the default.
//!
//! Every flag is also a key of the file and a variable: `--weight-decay` is `weight-decay` and
//! `SIGNVOTE_WEIGHT_DECAY`. None of the three is written down twice: names are derived from the flags.

use std::ffi::OsString;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches};

use crate::exit::{Exit, Failure};
use crate::flags::{Cli, Command};
use crate::suiting::Suiting;

/// Prefix of the variables.
pub(crate) const PREFIX: &str = "SIGNVOTE_";

/// Reads flags, environment and configuration file.
///
/// Prints help and the version by itself and exits.
pub(crate) fn parse() -> Result<Cli, Failure> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Numbers may be negative so that a wrong one is answered by its own name and range.
    let negative = |command: clap::Command| with_variables(command).allow_negative_numbers(true);
    let command = negative(mut_commands(Cli::command(), &negative));
    let told = match settings_file(&arguments) {
        None => Vec::new(),
        Some(file) => {
            let path = file.path();
            let text = std::fs::read_to_string(&path).map_err(|error| file.missing(&error))?;
            settings_in(&command, &path, &text)?
        }
    };
    let read = |settings: &[Setting]| {
        let matches = with_settings(command.clone(), settings).try_get_matches_from(&arguments);
        matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => Failure::usage(in_one_line(&error)),
        })
    };
    let cli = read(&told)?;
    let suiting = match &cli.command {
        Command::Train(flags) => Suiting::of_vote(&flags.learn, &flags.rules),
        Command::FindRate(flags) => Suiting::of_vote(&flags.learn, &flags.rules),
        _ => None,
    };
    // Read again, because a setting's default depends on that of another.
    suiting.map_or(Ok(cli), |suiting| read(&[suiting.settings(), told].concat()))
}

/// What `subcommand` would be told by a settings file alone, without flags and variables.
///
/// # Errors
/// As those of `--config`.
pub(crate) fn of_file_alone(subcommand: &str, path: &str, text: &str) -> Result<Cli, Failure> {
    let command = Cli::command();
    let settings = settings_in(&command, path, text)?;
    let command = with_settings(command, &settings);
    let matches = command.try_get_matches_from(["signvote", subcommand]);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    cli.map_err(|error| Failure::usage(format!("{path}: {}", in_one_line(&error))))
}

/// What is wrong, and what clap would have instead, without the usage that it adds below.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let words = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words = words.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let mut line = String::new();
    for word in words {
        match word.strip_prefix("tip: ") {
            Some(tip) => line += &format!("; {tip}"),
            None if line.is_empty() => line += word.trim_start_matches("error: "),
            None => line += &format!(" {word}"),
        }
    }
    format!("{line}; see --help")
}

/// Changes every subcommand, and theirs; not the command itself, which may have flags for all of them.
fn mut_commands(command: clap::Command, change: &dyn Fn(clap::Command) -> clap::Command) -> clap::Command {
    command.mut_subcommands(|subcommand| change(mut_commands(subcommand, change)))
}

fn with_variables(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| match argument.get_long() {
        Some(long) if long != "help" => {
            let variable = format!("{PREFIX}{}", long.to_uppercase().replace('-', "_"));
            let argument = argument.env(variable).hide_env(true);
            if matches!(argument.get_action(), ArgAction::SetTrue) {
                // A variable says 1, yes or on as well as true.
                argument.value_parser(BoolishValueParser::new())
            } else {
                argument
            }
        }
        _ => argument,
    })
}

/// The file that settings come from.
#[derive(Debug, PartialEq)]
enum SettingsFile {
    /// `--config`.
    Named(String),
    /// That of a run's directory, which goes on with the settings that it began with.
    OfRun(String),
}

impl SettingsFile {
    fn path(&self) -> String {
        match self {
            Self::Named(path) => path.clone(),
            Self::OfRun(directory) => format!("{directory}/config.toml"),
        }
    }

    fn missing(&self, error: &std::io::Error) -> Failure {
        let path = self.path();
        match self {
            Self::Named(_) => Failure::usage(format!("cannot read --config {path}: {error}")),
            Self::OfRun(directory) => {
                let message =
                    format!("--resume {directory}: no run is kept there: cannot read {path}: {error}");
                Failure::new(Exit::Data, message)
            }
        }
    }
}

/// The file has to be known before the flags are read, because it changes their defaults.
fn settings_file(arguments: &[OsString]) -> Option<SettingsFile> {
    let mut arguments = arguments.iter().filter_map(|argument| argument.to_str());
    let mut resumed = None;
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().map(str::to_owned).map(SettingsFile::Named);
        }
        if let Some(path) = argument.strip_prefix("--config=") {
            return Some(SettingsFile::Named(path.to_owned()));
        }
        if argument == "--resume" {
            resumed = arguments.next().map(str::to_owned);
        } else if let Some(path) = argument.strip_prefix("--resume=") {
            resumed = Some(path.to_owned());
        }
    }
    let variable = |name: &str| std::env::var(format!("{PREFIX}{name}")).ok();
    let named = variable("CONFIG").map(SettingsFile::Named);
    named.or_else(|| resumed.or_else(|| variable("RESUME")).map(SettingsFile::OfRun))
}

/// A flag's name and its value.
type Setting = (String, String);

/// The settings in the text of a file.
fn settings_in(command: &clap::Command, path: &str, text: &str) -> Result<Vec<Setting>, Failure> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let line = at.map_or_else(String::new, |line| format!(", line {line}"));
        Failure::usage(format!("{path}{line} is no TOML: {}", error.message()))
    })?;
    let mut settings = Vec::new();
    for (key, value) in table {
        if !has_setting(command, &key) {
            let nearest = nearest(command, &key);
            let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            return Err(Failure::usage(format!("{path}: no command has a setting {key:?}{hint}")));
        }
        let value = match value {
            toml::Value::String(value) => value,
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
            other => {
                let got = other.type_str();
                let message = format!("{path}: {key} must be a string, number or boolean, got {got}");
                return Err(Failure::usage(message));
            }
        };
        settings.push((key, value));
    }
    Ok(settings)
}

/// Makes settings the defaults of the flags of the same names; of two of one name the later.
fn with_settings(command: clap::Command, settings: &[Setting]) -> clap::Command {
    let with_defaults = |command: clap::Command| {
        command.mut_args(|argument| {
            let setting = settings.iter().rfind(|(key, _)| argument.get_long() == Some(key));
            match setting {
                // A flag without a value is set by its variable alone: "false" must not count as given.
                Some((_, value)) if matches!(argument.get_action(), ArgAction::SetTrue) => {
                    argument.default_value(value.clone())
                }
                Some((_, value)) => argument.required(false).default_value(value.clone()),
                None => argument,
            }
        })
    };
    with_defaults(mut_commands(command, &with_defaults))
}

/// Whether any command has a flag of this name.
fn has_setting(command: &clap::Command, key: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(key))
        || command.get_subcommands().any(|subcommand| has_setting(subcommand, key))
}

/// The name of the flag that is most like `key`, if one is.
fn nearest(command: &clap::Command, key: &str) -> Option<String> {
    let mut names = Vec::new();
    collect(command, &mut names);
    let likeness = |name: &String| strsim::jaro_winkler(name, key);
    let best = names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.filter(|name| likeness(name) > 0.8)
}

fn collect(command: &clap::Command, names: &mut Vec<String>) {
    names.extend(command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)));
    command.get_subcommands().for_each(|subcommand| collect(subcommand, names));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        with_variables(mut_commands(Cli::command(), &with_variables)).debug_assert();
    }

    #[test]
    fn the_file_is_found_in_both_spellings() {
        let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let file = |words: &[&str]| settings_file(&arguments(words));
        assert_eq!(file(&["signvote", "train", "--config", "a"]), Some(SettingsFile::Named("a".into())));
        assert_eq!(file(&["signvote", "train", "--config=b"]), Some(SettingsFile::Named("b".into())));
        assert_eq!(file(&["signvote", "server", "--resume", "c"]), Some(SettingsFile::OfRun("c".into())));
        let both = ["signvote", "server", "--resume=c", "--config=d"];
        assert_eq!(file(&both), Some(SettingsFile::Named("d".into())));
    }
}
