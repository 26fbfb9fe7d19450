//! The limit: the bytes of a case moved by a loop that does nothing else, the faster one of two.

use std::hint::black_box;

use signvote_kernels::Isa;
use signvote_kernels::testing::{read_with, update_with, write_with};

/// How memory is passed over: which way is faster depends on where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From one end to the other.
    Straight,
    /// In parts, a line of the cache of each in turn.
    SideBySide,
}

/// Memory to be passed over once.
pub(super) enum Stream<'a> {
    Read(&'a [u8]),
    Write(&'a mut [u8]),
    Update(&'a mut [u8]),
}

impl Stream<'_> {
    /// Bytes read and written.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Read(bytes) => bytes.len(),
            Self::Write(bytes) => bytes.len(),
            Self::Update(bytes) => 2 * bytes.len(),
        }
    }

    /// Passes over it in the instruction set that the kernels use. What is updated keeps its value.
    fn pass(self, isa: Isa, way: Way) {
        let parts = way == Way::SideBySide;
        // Up to seven bytes before the first and after the last whole word are left out.
        match self {
            Self::Read(bytes) => {
                black_box(read_with(isa, bytemuck::pod_align_to(bytes).1, parts));
            }
            Self::Write(bytes) => write_with(isa, bytemuck::pod_align_to_mut(bytes).1, black_box(0), parts),
            Self::Update(bytes) => update_with(isa, bytemuck::pod_align_to_mut(bytes).1, black_box(0), parts),
        }
    }

    fn halves(self) -> (Self, Self) {
        // At a line of the cache, if it begins at one.
        let middle = |bytes: &[u8]| bytes.len() / 2 / 64 * 64;
        match self {
            Self::Read(bytes) => {
                let (left, right) = bytes.split_at(middle(bytes));
                (Self::Read(left), Self::Read(right))
            }
            Self::Write(bytes) => {
                let (left, right) = bytes.split_at_mut(middle(bytes));
                (Self::Write(left), Self::Write(right))
            }
            Self::Update(bytes) => {
                let (left, right) = bytes.split_at_mut(middle(bytes));
                (Self::Update(left), Self::Update(right))
            }
        }
    }
}

/// Passes over the streams, one after another; with several threads, each over parts of all of them.
pub(super) fn pass<'a>(streams: impl Iterator<Item = Stream<'a>>, threads: usize, way: Way) {
    let isa = Isa::active();
    if threads == 1 {
        streams.for_each(|stream| stream.pass(isa, way));
    } else {
        // At least four parts a thread, so that one that is held up does not hold up all.
        split((isa, way), streams.collect(), threads.next_power_of_two().ilog2() + 2);
    }
}

fn split(how: (Isa, Way), streams: Vec<Stream<'_>>, halvings: u32) {
    if halvings == 0 {
        streams.into_iter().for_each(|stream| stream.pass(how.0, how.1));
        return;
    }
    let (left, right): (Vec<_>, Vec<_>) = streams.into_iter().map(Stream::halves).unzip();
    rayon::join(|| split(how, left, halvings - 1), || split(how, right, halvings - 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_writes_what_is_written_and_keeps_what_is_updated() {
        for (threads, way) in
            [(1, Way::Straight), (3, Way::Straight), (1, Way::SideBySide), (3, Way::SideBySide)]
        {
            let read = vec![7_u8; 5000];
            let (mut written, mut updated) = (vec![1_u64; 1000], vec![1_u64; 1000]);
            let streams = [
                Stream::Read(&read),
                Stream::Write(bytemuck::cast_slice_mut(&mut written)),
                Stream::Update(bytemuck::cast_slice_mut(&mut updated)),
            ];
            assert_eq!(streams.each_ref().map(Stream::bytes), [5000, 8000, 16_000]);
            pass(streams.into_iter(), threads, way);
            assert_eq!(written, vec![0; 1000], "{threads} threads, {way:?}");
            assert_eq!(updated, vec![1; 1000], "{threads} threads, {way:?}");
        }
    }
}
