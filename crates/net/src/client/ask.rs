//! A question for a server, instead of joining it.

use signvote_election::wire::{ToWorker, ask};
use signvote_election::{Error as ElectionError, ExchangeError};

use super::{Connect, Inbound, Loss, Wire};

/// Asks the server at `connect` how its run stands; the answer is JSON.
///
/// # Errors
/// If nobody answers, or what answers is no server of this kind.
pub fn ask_status(connect: &Connect) -> Result<String, ExchangeError> {
    ask_status_of(connect, 0)
}

/// The same, with an answer of so many bytes, as far as the server goes along with that: blanks follow the JSON.
///
/// # Errors
/// As those of [`ask_status`].
pub fn ask_status_of(connect: &Connect, bytes: u32) -> Result<String, ExchangeError> {
    let mut wire = Wire::dial(connect, None, connect.patience, true).map_err(|loss| loss.error)?;
    if let Some(outbound) = &wire.outbound {
        let _ = outbound.send(ask(bytes));
    }
    let silent = |loss: Loss| match loss.error {
        ExchangeError::Lost(reason) => {
            ExchangeError::Lost(format!("{} did not answer: {reason}", connect.address))
        }
        error => error,
    };
    let frame = match wire.inbound.blocking_recv() {
        Some(Inbound::Server(frames)) => frames.map(|mut frames| frames.swap_remove(0)),
        _ => Err(Loss::ended()),
    };
    let frame = frame.map_err(silent)?;
    match ToWorker::decode(&frame)? {
        ToWorker::Status { json } => Ok(json),
        ToWorker::Refused { later, reason } => Err(ElectionError::Refused { later, reason }.into()),
        _ => Err(ExchangeError::Lost(format!("{} answered something else", connect.address))),
    }
}
