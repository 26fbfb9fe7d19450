//! Whole frames off and onto a stream.

use std::io;

use bytes::Bytes;
use signvote_election::wire::LENGTH_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::mpsc;

/// Bytes buffered on either side of a socket: a few chunks.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The stream ended between two frames.
    Closed,
    /// The stream failed, or ended within a frame.
    Io(io::Error),
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
            Self::Io(error) => write!(f, "the connection failed: {error}"),
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
    let mut filled = 0;
    while filled < LENGTH_BYTES {
        match stream.read(&mut header[filled..]).await {
            Ok(0) if filled == 0 => return Err(ReadError::Closed),
            Ok(0) => return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => filled += read,
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
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

/// Writes what comes out of the queue until it is closed; flushes whenever it is empty.
/// `sent` is told each frame that has been handed to the stream.
pub(crate) async fn write_queue(
    stream: impl AsyncWrite + Unpin,
    queue: &mut mpsc::UnboundedReceiver<Bytes>,
    mut sent: impl FnMut(&Bytes),
) -> io::Result<()> {
    let mut stream = BufWriter::with_capacity(BUFFER_BYTES, stream);
    while let Some(frame) = queue.recv().await {
        stream.write_all(&frame).await?;
        sent(&frame);
        while let Ok(frame) = queue.try_recv() {
            stream.write_all(&frame).await?;
            sent(&frame);
        }
        stream.flush().await?;
    }
    stream.shutdown().await
}
