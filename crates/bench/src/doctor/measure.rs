//! The numbers. Each function takes well below a second where nothing is in its way.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signvote_election::{ExchangeError, Status, WorkerState};
use signvote_kernels::Isa;
use signvote_net::{Connect, ask_status, ask_status_of};

use crate::kernels::per_round;
use crate::machine::meminfo;
use crate::plan::Costs;
use crate::{Error, Machine, available_bytes};

/// Bytes of each of the two arrays of a copy: together more than a cache holds.
const COPIED_BYTES: usize = 64 << 20;
/// Copies that are timed, after one that makes the memory there.
const COPIES: u32 = 5;
/// Coordinates that the kernels are measured with.
const COORDINATES: usize = 4 << 20;
/// Bytes of a long answer: 10 ms at 1 Gb/s.
const LONG_ANSWER: u32 = 1_000_000;
/// Messages there and back, and how long bytes are sent.
const ROUND_TRIPS: usize = 500;
const SENDING: Duration = Duration::from_millis(300);
/// Longest that a socket of this machine may say nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// What is written to the disk at once: some rounds of the mlp, or a fiftieth of one of ResNet-50.
pub(super) const WRITTEN_BYTES: usize = 64 << 10;
/// Writes that are timed, and how long the last of them may begin after the first.
const WRITES: usize = 20;
const WRITING: Duration = Duration::from_millis(500);
/// How often a server is asked.
pub(super) const QUESTIONS: usize = 5;

/// The processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    /// Its name, its cores, and which kernels are used.
    pub machine: Machine,
    /// Instruction sets that there are kernels for, worst first.
    pub available: Vec<String>,
    /// Whether `SIGNVOTE_ISA` has a say.
    pub asked: bool,
}

/// Looks at the processor.
#[must_use]
pub fn cpu() -> Cpu {
    let asked = std::env::var_os("SIGNVOTE_ISA").is_some_and(|value| !value.is_empty());
    let available = Isa::available().map(|isa| isa.name().to_owned()).collect();
    Cpu { machine: Machine::here(), available, asked }
}

/// The memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// What the machine has; `None` where the system does not say.
    pub total_bytes: Option<u64>,
    /// What could be had without swapping.
    pub available_bytes: Option<u64>,
    /// Bytes read and written by a plain copy on one core, in gigabytes a second; `None` where there is no room to measure.
    pub copy_gb_per_s: Option<f64>,
}

/// Measures the memory.
#[must_use]
pub fn memory() -> Memory {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text, "MemTotal:"));
    let available = available_bytes();
    let room = available.is_none_or(|bytes| bytes > 4 * COPIED_BYTES as u64);
    Memory { total_bytes: total, available_bytes: available, copy_gb_per_s: room.then(copy_gb_per_s) }
}

/// The best of a few copies: what disturbs the machine makes it only slower.
fn copy_gb_per_s() -> f64 {
    let (from, mut to) = (vec![1.0_f32; COPIED_BYTES / 4], vec![0.0_f32; COPIED_BYTES / 4]);
    let mut best = f64::INFINITY;
    for turn in 0..=COPIES {
        let began = Instant::now();
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        if turn > 0 {
            best = best.min(seconds(began));
        }
    }
    2.0 * COPIED_BYTES as f64 / best / 1e9
}

/// A clock that has not moved must not make a rate infinite.
fn seconds(began: Instant) -> f64 {
    began.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}

/// The network within the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loopback {
    /// Bytes of one connection that came through in a second.
    pub bytes_per_second: f64,
    /// The median of a byte there and back.
    pub round_trip: Duration,
}

/// Measures a TCP connection over 127.0.0.1.
///
/// # Errors
/// If there is no port to be had, or the connection breaks.
pub fn loopback() -> io::Result<Loopback> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut here = TcpStream::connect(listener.local_addr()?)?;
    let (there, from) = listener.accept()?;
    if from != here.local_addr()? {
        return Err(io::Error::other("another program connected to the port of this test"));
    }
    for stream in [&here, &there] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
    }
    thread::scope(|scope| {
        let echo = thread::Builder::new().spawn_scoped(scope, move || answer(there))?;
        let measured = ask(&mut here);
        // If that broke off, the other end is not to wait for more.
        let _ = here.shutdown(Shutdown::Both);
        let answered = echo.join().unwrap_or_else(|_| Err(io::Error::other("the other end has panicked")));
        measured.and_then(|measured| answered.map(|()| measured))
    })
}

/// This end: bytes there and back, then as many as go.
fn ask(stream: &mut TcpStream) -> io::Result<Loopback> {
    let mut byte = [1];
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(began.elapsed());
    }
    let (block, mut sent, began) = (vec![1; 256 << 10], 0, Instant::now());
    while began.elapsed() < SENDING {
        stream.write_all(&block)?;
        sent += block.len();
    }
    stream.shutdown(Shutdown::Write)?;
    // The answer comes once everything has.
    stream.read_exact(&mut byte)?;
    Ok(Loopback { bytes_per_second: sent as f64 / seconds(began), round_trip: median(times) })
}

/// The other end.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut byte = [0];
    for _ in 0..ROUND_TRIPS {
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
    }
    let mut block = vec![0; 256 << 10];
    while stream.read(&mut block)? > 0 {}
    stream.write_all(&byte)
}

/// The median, of an even number the later of the two in the middle; zero of none.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What the system takes the time to be; `None` if that is before 1970.
    pub seconds_since_1970: Option<u64>,
    /// The smallest step that the clock for durations was seen to take; `None` if it stood still.
    pub step: Option<Duration>,
}

/// Looks at the clocks.
#[must_use]
pub fn clock() -> Clock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let (began, mut last, mut step) = (Instant::now(), Instant::now(), None::<Duration>);
    // A clock of 60 Hz takes a step within that time, and one that stands still does not end it: hence both bounds.
    for _ in 0..10_000_000 {
        let now = Instant::now();
        let moved = now.saturating_duration_since(last);
        if !moved.is_zero() {
            step = Some(step.map_or(moved, |least| least.min(moved)));
            last = now;
        }
        if now.saturating_duration_since(began) > Duration::from_millis(20) {
            break;
        }
    }
    Clock { seconds_since_1970: since.map(|since| since.as_secs()), step }
}

/// How many files a process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// As it is.
    pub soft: u64,
    /// As it may be raised to by the user.
    pub hard: u64,
}

/// Reads how many files this process may have open; `None` where the system does not say.
#[must_use]
pub fn open_files() -> Option<OpenFiles> {
    open_files_in(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// The same in the text of `/proc/self/limits`.
pub(super) fn open_files_in(text: &str) -> Option<OpenFiles> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut limits = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some(OpenFiles { soft: limits.next()??, hard: limits.next()?? })
}

/// A file system.
#[derive(Debug)]
pub struct Disk {
    /// What this user may still write; `None` where the system does not say.
    pub free_bytes: Option<u64>,
    /// Whether it is known to be in memory, where nothing has to wait and nothing lasts.
    pub in_memory: bool,
    /// The median time until 64 KiB at the end of a file are on the disk.
    pub write: io::Result<Duration>,
}

/// Measures the file system of a directory, with a file that is removed.
#[must_use]
pub fn disk(directory: &Path) -> Disk {
    Disk {
        free_bytes: free_bytes(directory),
        in_memory: in_memory(directory),
        write: synced_write(directory),
    }
}

#[cfg(unix)]
fn free_bytes(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_directory: &Path) -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
fn in_memory(directory: &Path) -> bool {
    // TMPFS_MAGIC of linux/magic.h.
    rustix::fs::statfs(directory).is_ok_and(|found| found.f_type == 0x0102_1994)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_directory: &Path) -> bool {
    false
}

fn synced_write(directory: &Path) -> io::Result<Duration> {
    let path = directory.join(format!(".signvote-doctor-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let remove = Remove(path);
    let times = write_often(&mut file);
    drop(file);
    drop(remove);
    times.map(median)
}

fn write_often(file: &mut File) -> io::Result<Vec<Duration>> {
    let (block, first) = (vec![1; WRITTEN_BYTES], Instant::now());
    let mut times = Vec::with_capacity(WRITES);
    while times.len() < WRITES && (times.is_empty() || first.elapsed() < WRITING) {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Removes a file, whatever happens.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // If it cannot be removed, it is 1 MiB with a name that says where it comes from.
        let _ = fs::remove_file(&self.0);
    }
}

/// What a core does, as far as it was measured.
#[derive(Debug)]
pub struct Measured {
    /// What the kernels cost here, and what bytes cost as it was told.
    pub costs: Costs,
    /// Why the kernels' were not measured either.
    pub error: Option<Error>,
}

/// Measures the kernels with so many voters, and leaves what a byte costs as it is: that takes whole rounds, and the seconds of
/// `signvote plan --measure`.
#[must_use]
pub fn costs(told: &Costs, voters: u16) -> Measured {
    let rows = match per_round(COORDINATES, voters) {
        Ok(rows) => rows,
        Err(error) => return Measured { costs: *told, error: Some(error) },
    };
    let ns = |name: &str, told: f64| {
        let row = rows.iter().find(|row| row.name == name);
        row.map_or(told, |row| row.best_ms * 1e6 / COORDINATES as f64)
    };
    let voters = f64::from(voters.max(1));
    let costs = Costs {
        pack_ns: ns("momentum_pack", told.pack_ns),
        apply_ns: ns("apply", told.apply_ns),
        tally_ns: ns("decide", told.tally_ns * voters) / voters,
        ..*told
    };
    Measured { costs, error: None }
}

/// A server that answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The run's id.
    pub run: String,
    /// What it is doing.
    pub phase: String,
    /// The open round.
    pub round: u64,
    /// Rounds in the run.
    pub rounds: u64,
    /// Workers that are connected.
    pub connected: usize,
    /// Places.
    pub workers: usize,
    /// The median time of a question for the status, connecting included.
    pub question: Duration,
    /// How fast a long answer came, in bits a second, connecting left out: what the link has at least. `None` if the server gives no long
    /// answers, or they took no longer than short ones.
    pub bits_per_second: Option<f64>,
    /// Whether it is encrypted.
    pub tls: bool,
}

impl Link {
    /// What a message takes one way, at most: to connect, to ask, and with TLS 1.3 to shake hands, there is one way there and one
    /// back each, and the server's own time is in it as well.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.question / if self.tls { 6 } else { 4 }
    }
}

/// The rate of long answers, where short ones of so many bytes take that long at least. A machine that is busy makes it less than it
/// is, and hardly ever more.
fn rate(connect: &Connect, question: Duration, short: usize) -> Option<f64> {
    let (mut times, mut length) = (Vec::with_capacity(QUESTIONS), 0);
    for _ in 0..QUESTIONS {
        let began = Instant::now();
        length = ask_status_of(connect, LONG_ANSWER).ok()?.len();
        times.push(began.elapsed());
    }
    let longer = median(times).checked_sub(question).filter(|longer| !longer.is_zero())?;
    (length >= LONG_ANSWER as usize).then(|| 8.0 * (length - short) as f64 / longer.as_secs_f64())
}

/// Asks a server how its run stands, a few times. Nothing else: a connection that says nothing is an offence at a server with
/// certificates.
///
/// # Errors
/// If it is not there, refuses, or speaks another version.
pub fn link(connect: &Connect) -> Result<Link, ExchangeError> {
    let (mut times, mut answer) = (Vec::with_capacity(QUESTIONS), String::new());
    // The first finds the server, and whoever knows its name.
    for turn in 0..=QUESTIONS {
        let began = Instant::now();
        answer = ask_status(connect)?;
        if turn > 0 {
            times.push(began.elapsed());
        }
    }
    let least = times.iter().min().copied().unwrap_or_default();
    let question = median(times);
    let bits_per_second = rate(connect, least, answer.len());
    let status: Status = serde_json::from_str(&answer).map_err(|error| {
        let reason = format!("{} has another version, and should have this one: {error}", connect.address);
        ExchangeError::Untrusted(reason)
    })?;
    let connected = status.workers.iter().filter(|worker| worker.state != WorkerState::Away).count();
    Ok(Link {
        run: status.run,
        phase: status.phase,
        round: status.round,
        rounds: status.rounds,
        connected,
        workers: status.workers.len(),
        question,
        bits_per_second,
        tls: connect.tls.is_some(),
    })
}
