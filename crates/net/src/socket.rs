//! How every connection is set up.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Silence after which the system asks whether the other host is still there, the pause between two
/// questions, and how many go unanswered before the connection is given up.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Sets up a connection: no frame lingers for the next one, because ballots and verdicts are waited for; and a
/// host that vanishes without a word (power, a cut cable) is noticed within half a minute, though a round may be
/// longer than that. Where the system refuses, the run is slower, or waits longer.
pub(crate) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&keepalive);
    // The same for bytes that were sent and are never acknowledged: keepalive does not look at those.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(time + interval * retries));
}
