//! A bad network: carries bytes between workers and a server, holds them up, and breaks connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::random::Random;

/// What the network does to each connection.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    /// A piece of up to 16 KiB is held up for less than this.
    pub(crate) delay: Duration,
    /// A connection breaks after less than so many bytes in one direction.
    pub(crate) bytes_to_live: u64,
}

/// Listens in the server's stead. Ends with the test.
pub(crate) struct Proxy {
    pub(crate) address: String,
    fine: Arc<AtomicBool>,
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) fn start(server: &str, weather: Weather, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (fine, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (server, mut random) = (server.to_owned(), Random::of(seed));
        let (calm, cut) = (Arc::clone(&fine), Arc::clone(&cuts));
        std::thread::spawn(move || {
            for worker in listener.incoming().map_while(Result::ok) {
                // A server that is away: hang up.
                let Ok(server) = TcpStream::connect(&server) else { continue };
                for (from, to) in [(&worker, &server), (&server, &worker)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let (random, calm, cut) =
                        (Random::of(random.next()), Arc::clone(&calm), Arc::clone(&cut));
                    std::thread::spawn(move || carry(from, to, weather, random, &calm, &cut));
                }
            }
        });
        Self { address, fine, cuts }
    }

    /// The weather clears up for good.
    pub(crate) fn clear_up(&self) {
        self.fine.store(true, Relaxed);
    }

    /// Connections that were broken.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Relaxed)
    }
}

fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    weather: Weather,
    mut random: Random,
    fine: &AtomicBool,
    cuts: &AtomicU64,
) {
    let mut left = random.below(weather.bytes_to_live);
    let mut piece = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if !fine.load(Relaxed) {
            std::thread::sleep(weather.delay.mul_f64(random.below(1000) as f64 / 1000.0));
            left = left.saturating_sub(count as u64);
            if left == 0 {
                // In the midst of a frame, mostly.
                let _ = to.write_all(&piece[..count / 2]);
                cuts.fetch_add(1, Relaxed);
                break;
            }
        }
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
