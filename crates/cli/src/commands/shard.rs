//! `signvote shard`: a part of the tally, for a server somewhere else; and the same beside a worker.

use std::net::{SocketAddr, ToSocketAddrs};

use signvote_election::RunId;
use signvote_net::tls::{Acceptor, Credentials};
use signvote_net::{Connect, ServeShard, ShardThread};

use super::worker::{connector, default_name};
use crate::exit::{Exit, Failure};
use crate::flags::{IdentityFlags, ShardFlags};
use crate::processes::exit_when_told;
use crate::progress;
use crate::rules::seconds;

/// Where a shard lets workers in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'a> {
    /// The flag that says so.
    pub(crate) flag: &'a str,
    pub(crate) listen: &'a str,
    /// What it tells others, if that is something else.
    pub(crate) address: Option<&'a str>,
    pub(crate) insecure: bool,
}

pub(crate) fn run(flags: &ShardFlags) -> Result<Exit, Failure> {
    let server = Connect {
        address: flags.connect.clone(),
        patience: seconds("patience", flags.patience, true)?,
        reconnect: seconds("reconnect", flags.reconnect, true)?,
        tls: connector(&flags.identity)?,
    };
    exit_when_told(false)?;
    let name = flags.name.clone().unwrap_or_else(default_name);
    let door = Door {
        flag: "listen",
        listen: &flags.listen,
        address: flags.address.as_deref(),
        insecure: flags.insecure,
    };
    let shard = start(server, door, &flags.identity, flags.run, name)?;
    if !flags.quiet {
        progress::line(&format!("tallies at {} for the server at {}", shard.address(), flags.connect));
        progress::line(&progress::kernels());
    }
    let reason = shard.join()?;
    if !flags.quiet {
        progress::line(&format!("the run is over: {reason}"));
    }
    Ok(Exit::Success)
}

/// Starts a shard in a thread of its own.
pub(crate) fn start(
    server: Connect,
    door: Door<'_>,
    identity: &IdentityFlags,
    run: Option<RunId>,
    name: String,
) -> Result<ShardThread, Failure> {
    let tls = match (&identity.tls, &identity.identity) {
        (Some(directory), Some(name)) => {
            Some(Acceptor::for_shard(Credentials::load(directory, name.as_str())?)?)
        }
        _ => None,
    };
    let address = door.address.unwrap_or_default().to_owned();
    let options = ServeShard { server, tls, run, name, address };
    Ok(ShardThread::start(resolve(door.flag, door.listen)?, door.insecure, options)?)
}

/// The address that a flag names.
pub(crate) fn resolve(flag: &str, address: &str) -> Result<SocketAddr, Failure> {
    let wrong =
        |reason: String| Failure::usage(format!("--{flag} wants HOST:PORT, got {address:?}: {reason}"));
    let mut addresses = address.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    addresses.next().ok_or_else(|| wrong("no such host".into()))
}
