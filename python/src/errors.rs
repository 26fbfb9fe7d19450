//! Exceptions: one for each kind of error, all of them `SignvoteError`s.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use signvote_election::{Error, ExchangeError};

create_exception!(signvote, SignvoteError, PyException, "What every error of signvote is.");
create_exception!(signvote, DtypeError, SignvoteError, "An array holds numbers of another type.");
create_exception!(signvote, ShapeError, SignvoteError, "An array has another length than it must have.");
create_exception!(signvote, DeviceError, SignvoteError, "A tensor is on another device than it must be.");
create_exception!(
    signvote,
    MemoryLayoutError,
    SignvoteError,
    "An array does not lie in one piece, or may not be written to."
);
create_exception!(signvote, MisuseError, SignvoteError, "An argument or a call that makes no sense here.");
create_exception!(signvote, MalformedError, SignvoteError, "The other side sent bytes that are no frame.");
create_exception!(signvote, MisbehavedError, SignvoteError, "The other side broke a rule of the protocol.");
create_exception!(
    signvote,
    IncompatibleError,
    SignvoteError,
    "Both sides are sound, but this worker cannot take part in this run."
);
create_exception!(signvote, RefusedError, SignvoteError, "The server said no..");
create_exception!(
    signvote,
    UntrustedError,
    SignvoteError,
    "One side does not take the other for who it should be."
);
create_exception!(signvote, LostError, SignvoteError, "The server cannot be reached, or is gone.");
create_exception!(
    signvote,
    IdentityError,
    SignvoteError,
    "A certificate or key cannot be read, or is of no use."
);

/// The exception for an error of the exchange.
pub(crate) fn of_exchange(error: ExchangeError) -> PyErr {
    let text = error.to_string();
    match error {
        ExchangeError::Protocol(error) => of_election(error),
        ExchangeError::Untrusted(_) => UntrustedError::new_err(text),
        ExchangeError::Lost(_) => LostError::new_err(text),
        _ => SignvoteError::new_err(text),
    }
}

/// The exception for an error of the election.
pub(crate) fn of_election(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Malformed { .. } => MalformedError::new_err(text),
        Error::Misbehaved { .. } => MisbehavedError::new_err(text),
        Error::Incompatible { .. } => IncompatibleError::new_err(text),
        Error::Refused { .. } => RefusedError::new_err(text),
        Error::Misuse(_) => MisuseError::new_err(text),
        _ => SignvoteError::new_err(text),
    }
}
