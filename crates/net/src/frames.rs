//! Whole frames off and onto a stream.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use signvote_election::wire::LENGTH_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Length of a buffer: some chunks of a ballot.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers of a connection that are kept to be used again.
const MOST_BUFFERS: usize = 64;
/// Less room than this is not worth a read.
const LEAST_READ_BYTES: usize = 16 * 1024;
/// Bytes that are taken out of a queue before the first of them are written.
const BATCH_BYTES: usize = 256 * 1024;

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

/// A stream that frames are read off.
///
/// Frames are slices of the buffer that the socket was read into: nothing is copied but a frame's part at a buffer's end. A
/// buffer is used again once all its frames are gone: fresh memory would cost a page fault every 4 KiB, more than the copy.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    /// Buffers whose frames may still be about, oldest first.
    full: VecDeque<BytesMut>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new(), full: VecDeque::new() }
    }

    /// The stream, for who has no more use for frames.
    pub(crate) fn into_inner(self) -> R {
        self.stream
    }

    /// Reads a frame, its length included. `allowed` is asked once the length is known, because what a peer may send changes as
    /// it joins; nothing of that length is allocated before.
    pub(crate) async fn next(&mut self, allowed: impl Fn() -> usize) -> Result<Bytes, ReadError> {
        if let Some(frame) = self.split(&allowed)? {
            return Ok(frame);
        }
        // A round may be long, so that the first byte is waited for without limit; by then the rest is on its way.
        if self.buffer.is_empty() && !self.fill().await? {
            return Err(ReadError::Closed);
        }
        match tokio::time::timeout(FRAME_PATIENCE, self.rest(&allowed)).await {
            Ok(frame) => frame,
            Err(_) => Err(ReadError::Slow),
        }
    }

    /// Reads a frame, and all that are there behind it: to wake another thread for each costs more than most of them.
    ///
    /// A fault behind whole frames is found with the next call.
    pub(crate) async fn batch(&mut self, allowed: impl Fn() -> usize) -> Result<Vec<Bytes>, ReadError> {
        let mut frames = vec![self.next(&allowed).await?];
        while let Ok(Some(frame)) = self.split(&allowed) {
            frames.push(frame);
        }
        Ok(frames)
    }

    async fn rest(&mut self, allowed: &impl Fn() -> usize) -> Result<Bytes, ReadError> {
        loop {
            if let Some(frame) = self.split(allowed)? {
                return Ok(frame);
            }
            if !self.fill().await? {
                return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The next frame, if all of it is in the buffer.
    fn split(&mut self, allowed: &impl Fn() -> usize) -> Result<Option<Bytes>, ReadError> {
        let Some(&header) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let announced = u32::from_le_bytes(header) as usize;
        let allowed = allowed();
        if announced > allowed {
            return Err(ReadError::TooLong { announced, allowed });
        }
        let whole = LENGTH_BYTES + announced;
        if self.buffer.len() < whole {
            self.make_room(whole - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(whole).freeze()))
    }

    /// Room for so many bytes behind those that are there.
    fn make_room(&mut self, bytes: usize) {
        if self.buffer.capacity() - self.buffer.len() >= bytes {
            return;
        }
        let wanted = (self.buffer.len() + bytes).max(BUFFER_BYTES);
        let free = self.full.iter_mut().position(|buffer| buffer.try_reclaim(wanted));
        let mut next = match free.and_then(|index| self.full.remove(index)) {
            Some(buffer) => buffer,
            None => BytesMut::with_capacity(wanted),
        };
        next.extend_from_slice(&self.buffer);
        let mut full = std::mem::replace(&mut self.buffer, next);
        full.clear();
        if self.full.len() == MOST_BUFFERS {
            self.full.pop_front();
        }
        self.full.push_back(full);
    }

    /// Reads what there is; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        self.make_room(LEAST_READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await.map_err(ReadError::Io)? > 0)
    }
}

/// Frames on their way out, written as they lie in memory, many with one call.
#[derive(Debug)]
pub(crate) struct FrameWriter<W> {
    stream: W,
    batch: Batch,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(crate) fn new(stream: W) -> Self {
        Self { stream, batch: Batch::default() }
    }

    /// Waits for frames, writes what there is and flushes. `false` once the queue is closed and the stream shut down.
    /// `sent` is told each frame that has been handed to the stream.
    pub(crate) async fn write(
        &mut self,
        queue: &mut mpsc::UnboundedReceiver<Bytes>,
        mut sent: impl FnMut(&Bytes),
    ) -> io::Result<bool> {
        let Some(frame) = queue.recv().await else {
            self.stream.shutdown().await?;
            return Ok(false);
        };
        self.batch.push(frame);
        loop {
            while self.batch.bytes < BATCH_BYTES
                && let Ok(frame) = queue.try_recv()
            {
                self.batch.push(frame);
            }
            if self.batch.frames.is_empty() {
                break;
            }
            while self.batch.has_remaining() {
                self.stream.write_buf(&mut self.batch).await?;
                self.batch.written(&mut sent);
            }
        }
        self.stream.flush().await?;
        Ok(true)
    }
}

/// Whole frames, the first of them written in part.
#[derive(Debug, Default)]
struct Batch {
    frames: VecDeque<Bytes>,
    /// Bytes of the first frame that have been written.
    offset: usize,
    /// Bytes that have not.
    bytes: usize,
    done: VecDeque<Bytes>,
}

impl Batch {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Tells of the frames that are through, and lets go of them.
    fn written(&mut self, sent: &mut impl FnMut(&Bytes)) {
        self.done.drain(..).for_each(|frame| sent(&frame));
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], |frame| &frame[self.offset..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let mut from = self.offset;
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = io::IoSlice::new(&frame[from..]);
            from = 0;
            count += 1;
        }
        count
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        self.offset += count;
        while let Some(first) = self.frames.front()
            && self.offset >= first.len()
        {
            self.offset -= first.len();
            self.done.extend(self.frames.pop_front());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Bytes {
        let mut bytes = (payload as u32 + 1).to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend((0..payload).map(|at| at as u8));
        bytes.into()
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_out_as_they_went_in() {
        let (to, from) = tokio::io::duplex(10_000);
        let frames: Vec<_> = (0..300).map(|index| frame(index as u8, index * index % 30_011)).collect();
        let (queue, mut queued) = mpsc::unbounded_channel();
        frames.iter().for_each(|frame| queue.send(frame.clone()).unwrap());
        drop(queue);
        let writer = tokio::spawn(async move {
            let mut sent = Vec::new();
            let mut stream = FrameWriter::new(to);
            while stream.write(&mut queued, |frame| sent.push(frame.clone())).await.unwrap() {}
            sent
        });
        let mut reader = FrameReader::new(from);
        for expected in &frames {
            assert_eq!(reader.next(|| 1 << 20).await.unwrap(), expected);
        }
        assert!(matches!(reader.next(|| 1 << 20).await, Err(ReadError::Closed)));
        assert_eq!(writer.await.unwrap(), frames, "each is told of once, when it is through");
    }

    #[tokio::test]
    async fn a_frame_that_breaks_off_or_is_too_long_is_no_frame() {
        let bytes = frame(1, 100);
        let mut reader = FrameReader::new(&bytes[..50]);
        assert!(matches!(reader.next(|| 1000).await, Err(ReadError::Io(_))));
        let mut reader = FrameReader::new(&bytes[..3]);
        assert!(matches!(reader.next(|| 1000).await, Err(ReadError::Io(_))));
        let mut reader = FrameReader::new(&bytes[..]);
        assert!(matches!(
            reader.next(|| 100).await,
            Err(ReadError::TooLong { announced: 101, allowed: 100 })
        ));
        let mut rest = Vec::new();
        reader.into_inner().read_to_end(&mut rest).await.unwrap();
    }
}
