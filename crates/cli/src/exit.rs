//! Every way in which the program ends, in one place. `docs/exit-codes.md` tells users the same.

use std::fmt;
use std::process::ExitCode;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// Something that should not happen.
    Internal = 1,
    /// A flag, a setting or their combination is wrong.
    Usage = 2,
    /// A data set or model file is missing or broken.
    Data = 3,
    /// The server cannot listen, cannot be reached, or was lost.
    Network = 4,
    /// The server refused this worker, or the two do not fit together.
    Refused = 5,
    /// Too few workers are left to go on.
    Workers = 6,
    /// Gradients stayed non-finite.
    Diverged = 7,
    /// A file of the run cannot be written, or one of an identity not used: disk full, no permission, directory taken,
    /// file missing or broken, key readable by others.
    Files = 8,
    /// The log of a run is not what it should be: a verdict, a voter or a signature does not hold.
    Audit = 9,
    /// A report was written, and a check in it did not pass.
    Unconfirmed = 10,
    /// Ctrl-C or SIGTERM; what was committed is saved.
    Interrupted = 130,
}

impl Exit {
    /// The exit that a child process ended with, as far as it is one of ours.
    pub(crate) fn of_child(code: Option<i32>) -> Self {
        [Self::Usage, Self::Data, Self::Network, Self::Refused, Self::Workers, Self::Diverged, Self::Files]
            .into_iter()
            .find(|&exit| code == Some(exit as i32))
            .unwrap_or(Self::Internal)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: one line for people, and an exit code for programs.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An error of the system in doing something that nobody expects to fail.
    pub(crate) fn internal(doing: &str, error: &dyn fmt::Display) -> Self {
        Self::new(Exit::Internal, format!("{doing}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<signvote_learn::Error> for Failure {
    fn from(error: signvote_learn::Error) -> Self {
        use signvote_learn::Error;
        let exit = match &error {
            Error::MissingData { .. } | Error::Read { .. } | Error::Malformed { .. } => Exit::Data,
            Error::UnknownName { .. } | Error::Misuse { .. } => Exit::Usage,
            Error::NonFinite { .. } => Exit::Diverged,
            Error::Exchange(error) => return error.clone().into(),
            _ => Exit::Internal,
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::new(exit, format!("{error}{cause}"))
    }
}

impl From<signvote_byzantine::Error> for Failure {
    fn from(error: signvote_byzantine::Error) -> Self {
        use signvote_byzantine::Error;
        match error {
            Error::Learn(error) => error.into(),
            Error::Election(error) => error.into(),
            error => Self::usage(error.to_string()),
        }
    }
}

impl From<signvote_reproduce::Error> for Failure {
    fn from(error: signvote_reproduce::Error) -> Self {
        use signvote_reproduce::Error;
        match error {
            Error::Run(error) => error.into(),
            Error::Data(error) => error.into(),
            error => Self::internal("cannot redo it", &error),
        }
    }
}

impl From<signvote_election::ExchangeError> for Failure {
    fn from(error: signvote_election::ExchangeError) -> Self {
        use signvote_election::{Error, ExchangeError};
        let exit = match &error {
            ExchangeError::Lost(_) => Exit::Network,
            ExchangeError::Protocol(Error::Misuse(_)) => Exit::Internal,
            _ => Exit::Refused,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<signvote_election::Error> for Failure {
    fn from(error: signvote_election::Error) -> Self {
        use signvote_election::Error;
        match error {
            Error::Misuse(message) => Self::usage(message),
            error => Self::new(Exit::Refused, error.to_string()),
        }
    }
}

impl From<signvote_net::Error> for Failure {
    fn from(error: signvote_net::Error) -> Self {
        use signvote_net::Error;
        let exit = match &error {
            Error::Insecure { .. } | Error::Name { .. } | Error::Issued { .. } | Error::NotIssued { .. } => {
                Exit::Usage
            }
            Error::File { .. } | Error::Malformed { .. } | Error::Exposed { .. } | Error::Occupied { .. } => {
                Exit::Files
            }
            Error::Certificate(_) => Exit::Internal,
            Error::Untrusted(_) | Error::RefusedBy(_) => Exit::Refused,
            _ => Exit::Network,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<signvote_bench::Error> for Failure {
    fn from(error: signvote_bench::Error) -> Self {
        use signvote_bench::Error;
        let exit = match error {
            Error::Exchange(error) => return error.into(),
            Error::Net(error) => return error.into(),
            Error::Memory { .. } | Error::Threads { .. } => Exit::Usage,
            Error::Results { .. } => Exit::Data,
            _ => Exit::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<signvote_ledger::Error> for Failure {
    fn from(error: signvote_ledger::Error) -> Self {
        use signvote_ledger::Error;
        let exit = match &error {
            Error::Io { .. } | Error::Full { .. } | Error::Stopped { .. } | Error::Occupied { .. } => {
                Exit::Files
            }
            Error::InUse { .. } => Exit::Files,
            Error::Misuse(_) => Exit::Internal,
            _ => Exit::Data,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<signvote_dashboard::Error> for Failure {
    fn from(error: signvote_dashboard::Error) -> Self {
        use signvote_dashboard::Error;
        let exit = match error {
            Error::Listen { .. } => Exit::Network,
            _ => Exit::Usage,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<signvote_observe::Error> for Failure {
    fn from(error: signvote_observe::Error) -> Self {
        use signvote_observe::Error;
        let exit = match &error {
            Error::NoRun { .. }
            | Error::NoEvent { .. }
            | Error::Malformed { .. }
            | Error::OtherModel { .. }
            | Error::Checkpoint { .. }
            | Error::Foreign { .. } => Exit::Data,
            _ => Exit::Files,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_kernel_should_not_happen_and_too_large_a_bench_is_a_wrong_flag() {
        use signvote_bench::Error;
        let [group, row, difference] = ["pack", "pack_half", "sign of coordinate 3"].map(str::to_owned);
        let failure = Failure::from(Error::Wrong { group, row, difference });
        assert_eq!(failure.exit, Exit::Internal);
        assert!(failure.to_string().contains("pack_half"), "{failure}");
        assert_eq!(Failure::from(Error::Memory { needed_mib: 2, available_mib: 1 }).exit, Exit::Usage);
    }
}
