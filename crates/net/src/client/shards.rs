//! A worker's connections to the shards of its run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signvote_election::wire::MAX_FRAME_BYTES;
use signvote_election::{ShardAddress, ShardId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::{HANDSHAKE, Inbound, pause, spread};
use crate::counted::{Counted, Counters};
use crate::frames::{FrameReader, FrameWriter};
use crate::shard::LocalShard;
use crate::socket::prepare;
use crate::tls::Connector;

/// How often the worker is told that time passes.
const TICK: Duration = Duration::from_secs(1);
/// How long an attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a shard is looked for before the worker is told that it is out of reach.
const UNREACHABLE: Duration = Duration::from_secs(2);
/// A connection that has stood for so long has worked: the next attempt follows at once.
const STABLE: Duration = Duration::from_secs(5);

/// Keeps a connection to each of the shards whose addresses are told, for as long as they are.
pub(super) async fn keep(
    mut told: mpsc::UnboundedReceiver<Vec<ShardAddress>>,
    inbound: mpsc::Sender<Inbound>,
    tls: Option<Connector>,
    local: Option<LocalShard>,
    counters: Arc<Counters>,
) {
    let mut links = JoinSet::new();
    let mut handles = HashMap::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            addresses = told.recv() => {
                let Some(addresses) = addresses else { return std::future::pending().await };
                handles.retain(|id: &ShardId, handle: &mut tokio::task::AbortHandle| {
                    let stays = addresses.iter().any(|shard| shard.id == *id);
                    if !stays {
                        handle.abort();
                    }
                    stays
                });
                for shard in addresses {
                    let id = shard.id;
                    let (tls, local) = (tls.clone(), local.clone());
                    let link = link(shard, inbound.clone(), tls, local, Arc::clone(&counters));
                    handles.entry(id).or_insert_with(|| links.spawn(link));
                }
            }
            Some(_) = links.join_next() => {}
            // A worker that computes has enough to read already.
            _ = ticks.tick(), if !handles.is_empty() => drop(inbound.try_send(Inbound::Tick)),
        }
    }
}

/// One connection after the other to a shard.
async fn link(
    shard: ShardAddress,
    inbound: mpsc::Sender<Inbound>,
    tls: Option<Connector>,
    local: Option<LocalShard>,
    counters: Arc<Counters>,
) {
    let (mut attempts, mut lost, mut complained) = (0, Instant::now(), false);
    loop {
        if let Some(stream) = local.as_ref().and_then(|local| local.connect(shard.id)) {
            let (read, write) = tokio::io::split(stream);
            let reason = carry(shard.id, read, write, &inbound).await;
            if inbound.send(Inbound::ShardLost(shard.id, reason)).await.is_err() {
                return;
            }
            tokio::time::sleep(spread(pause(0))).await;
            continue;
        }
        let reason = match connect(&shard.address).await {
            Ok(stream) => {
                let began = Instant::now();
                let stream = Counted::new(stream, Arc::clone(&counters));
                let (ran, reason) = match &tls {
                    None => {
                        let (read, write) = tokio::io::split(stream);
                        (true, carry(shard.id, read, write, &inbound).await)
                    }
                    Some(tls) => {
                        match tokio::time::timeout(HANDSHAKE, tls.connect_shard(stream, &shard.name)).await {
                            Ok(Ok(stream)) => {
                                let (read, write) = tokio::io::split(stream);
                                (true, carry(shard.id, read, write, &inbound).await)
                            }
                            Ok(Err(error)) => (false, error.to_string()),
                            Err(_) => (false, "the TLS handshake was not through in time".into()),
                        }
                    }
                };
                if ran {
                    if inbound.send(Inbound::ShardLost(shard.id, reason.clone())).await.is_err() {
                        return;
                    }
                    if began.elapsed() > STABLE {
                        (attempts, complained) = (0, false);
                        lost = Instant::now();
                    }
                }
                reason
            }
            Err(error) => error,
        };
        if lost.elapsed() > UNREACHABLE && !complained {
            complained = true;
            let reason = format!("{}: {reason}", shard.address);
            if inbound.send(Inbound::ShardUnreachable(shard.id, reason)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(spread(pause(attempts))).await;
        attempts += 1;
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    match tokio::time::timeout(ATTEMPT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            prepare(&stream);
            Ok(stream)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer for {ATTEMPT:?}")),
    }
}

/// Carries frames both ways until either has ended, and says why.
async fn carry(
    id: ShardId,
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    inbound: &mpsc::Sender<Inbound>,
) -> String {
    let (queue, mut frames) = mpsc::unbounded_channel::<Bytes>();
    if inbound.send(Inbound::ShardConnected(id, queue)).await.is_err() {
        return String::new();
    }
    let reader = async {
        let mut stream = FrameReader::new(read);
        loop {
            match stream.batch(|| MAX_FRAME_BYTES).await {
                Ok(frames) => {
                    if inbound.send(Inbound::Shard(id, frames)).await.is_err() {
                        return "the worker has ended".to_owned();
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    };
    let writer = async {
        let mut stream = FrameWriter::new(write);
        loop {
            match stream.write(&mut frames, |_| {}).await {
                Ok(true) => {}
                Ok(false) => return "hung up".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    };
    tokio::select! {
        reason = reader => reason,
        reason = writer => reason,
    }
}
