//! What a core does on the machine at hand.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::Costs;
use crate::kernels;
use crate::{Error, Machine};

/// Coordinates: more than fit a cache, and few enough for some seconds in all.
const DIM: usize = 8_000_000;
/// Bytes through a socket.
const SOCKET_BYTES: usize = 256 << 20;
/// A read or write.
const PIECE: usize = 1 << 16;
/// How often sums are timed.
const TURNS: usize = 7;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// With what could not be measured left as it was.
    pub costs: Costs,
    /// Where.
    pub machine: Machine,
    /// What could not be measured.
    pub left_out: Vec<&'static str>,
}

/// Measures the kernels with so many voters, sums, and a TCP connection over loopback, in some seconds. A byte of a ballot and
/// one of an all-reduce are both taken to cost what the socket does; framing and hashing are not in it. Binary16 is not measured:
/// what it costs is the other library's.
///
/// # Errors
/// Those of [`kernels::per_round`].
pub fn measure(costs: &Costs, voters: u16) -> Result<Measured, Error> {
    let rows = kernels::per_round(DIM, voters)?;
    let ns = |name: &str| {
        let row = rows.iter().find(|row| row.name == name);
        row.map(|row| row.median_ms * 1e6 / DIM as f64)
    };
    let mut measured = *costs;
    let mut left_out = vec!["reduce-half-ns"];
    if let (Some(pack), Some(apply), Some(tally)) = (ns("momentum_pack"), ns("apply"), ns("decide")) {
        measured.pack_ns = pack;
        measured.apply_ns = apply;
        measured.tally_ns = tally / f64::from(voters.max(1));
    }
    measured.reduce_ns = reduce_ns();
    match socket_ns() {
        Some(ns) => (measured.vote_byte_ns, measured.dense_byte_ns) = (ns, ns),
        None => left_out.extend(["vote-byte-ns", "dense-byte-ns"]),
    }
    Ok(Measured { costs: measured, machine: Machine::here(), left_out })
}

/// The least time of a sum in place, a coordinate.
fn reduce_ns() -> f64 {
    let (mut sum, other) = (vec![1.0_f32; DIM], vec![0.5_f32; DIM]);
    let mut turn = || {
        let began = Instant::now();
        sum.iter_mut().zip(black_box(&other)).for_each(|(sum, other)| *sum += other);
        black_box(&mut sum);
        began.elapsed().as_secs_f64()
    };
    (0..TURNS).map(|_| turn()).fold(f64::INFINITY, f64::min) * 1e9 / DIM as f64
}

/// What a byte costs a core at one end of a connection over loopback, the mean of both ends; `None` where the system does not
/// say how long a thread has run.
fn socket_ns() -> Option<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let address = listener.local_addr().ok()?;
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().ok()?;
        let mut piece = vec![0; PIECE];
        let before = thread_seconds()?;
        while stream.read(&mut piece).ok()? > 0 {}
        Some(thread_seconds()? - before)
    });
    let written = write_all(address);
    let read = reader.join().ok()??;
    Some((written? + read) / 2.0 * 1e9 / SOCKET_BYTES as f64)
}

fn write_all(address: std::net::SocketAddr) -> Option<f64> {
    let mut stream = TcpStream::connect(address).ok()?;
    let piece = vec![1; PIECE];
    let before = thread_seconds()?;
    for _ in 0..SOCKET_BYTES / PIECE {
        stream.write_all(&piece).ok()?;
    }
    Some(thread_seconds()? - before)
}

/// How long this thread has had a core, in seconds.
fn thread_seconds() -> Option<f64> {
    run_seconds(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// The first number of `schedstat`: nanoseconds on a core.
fn run_seconds(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse::<u64>().ok().map(|ns| ns as f64 * 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_thread_is_the_first_number() {
        assert_eq!(run_seconds("1500000000 20 3\n"), Some(1.5));
        assert_eq!(run_seconds(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_costs_something() {
        if let Some(ns) = socket_ns() {
            assert!(ns > 0.0 && ns < 1000.0, "{ns} ns a byte");
        }
    }
}
