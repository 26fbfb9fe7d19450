//! Whole frames off and onto a stream.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use signvote_election::wire::LENGTH_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::mpsc;

/// Bytes buffered on either side of a socket: a few chunks.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// How long a frame may take from its first byte to its last. The longest, of 1 MiB, needs 35 kB/s.
const FRAME_PATIENCE: Duration = Duration::from_secs(30);

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The stream ended between two frames.
    Closed,
    /// The stream failed, or ended within a frame.
    Io(io::Error),
    /// A frame was begun and did not come to its end in time.
    Slow,
    /// A frame longer than allowed was announced.
    TooLong { announced: usize, allowed: usize },
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed"),
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the connection broke off in the middle of a frame")
            }
            // What the TLS library says is said in words for people.
            Self::Io(error) => match error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                true => {
                    let explained = crate::tls::explain(io::Error::new(error.kind(), error.to_string()));
                    write!(f, "the connection failed: {explained}")
                }
                false => write!(f, "the connection failed: {error}"),
            },
            Self::Slow => write!(f, "a frame was not whole {FRAME_PATIENCE:?} after its first byte"),
            Self::TooLong { announced, allowed } => {
                write!(f, "a frame of {announced} bytes was announced where {allowed} are allowed")
            }
        }
    }
}

/// Reads a frame, its length included. `allowed` is asked once the length is known, because what a peer may
/// send changes as it joins; nothing is allocated before.
pub(crate) async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    allowed: impl Fn() -> usize,
) -> Result<Vec<u8>, ReadError> {
    let mut header = [0; LENGTH_BYTES];
    // A round may be long, so that the first byte is waited for without limit; by then the rest is on its way.
    let filled = stream.read(&mut header).await.map_err(ReadError::Io)?;
    if filled == 0 {
        return Err(ReadError::Closed);
    }
    let rest = rest_of_frame(stream, header, filled, allowed);
    tokio::time::timeout(FRAME_PATIENCE, rest).await.unwrap_or(Err(ReadError::Slow))
}

async fn rest_of_frame(
    stream: &mut (impl AsyncRead + Unpin),
    mut header: [u8; LENGTH_BYTES],
    filled: usize,
    allowed: impl Fn() -> usize,
) -> Result<Vec<u8>, ReadError> {
    stream.read_exact(&mut header[filled..]).await.map_err(ReadError::Io)?;
    let announced = u32::from_le_bytes(header) as usize;
    let allowed = allowed();
    if announced > allowed {
        return Err(ReadError::TooLong { announced, allowed });
    }
    let mut frame = vec![0; LENGTH_BYTES + announced];
    frame[..LENGTH_BYTES].copy_from_slice(&header);
    stream.read_exact(&mut frame[LENGTH_BYTES..]).await.map_err(ReadError::Io)?;
    Ok(frame)
}

/// A stream that frames are written to as they come out of a queue.
pub(crate) fn buffered<W: AsyncWrite>(stream: W) -> BufWriter<W> {
    BufWriter::with_capacity(BUFFER_BYTES, stream)
}

/// Waits for frames, writes what there is and flushes. `false` once the queue is closed and the stream shut down.
/// `sent` is told each frame that has been handed to the stream.
pub(crate) async fn write_frames(
    stream: &mut BufWriter<impl AsyncWrite + Unpin>,
    queue: &mut mpsc::UnboundedReceiver<Bytes>,
    mut sent: impl FnMut(&Bytes),
) -> io::Result<bool> {
    let Some(frame) = queue.recv().await else {
        stream.shutdown().await?;
        return Ok(false);
    };
    stream.write_all(&frame).await?;
    sent(&frame);
    while let Ok(frame) = queue.try_recv() {
        stream.write_all(&frame).await?;
        sent(&frame);
    }
    stream.flush().await?;
    Ok(true)
}
