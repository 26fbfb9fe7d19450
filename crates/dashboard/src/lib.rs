//! The live page of a run, over HTTP.
//!
//! ```text
//! /              the page: three files that are in the program
//! /api/snapshot  the status snapshot, as JSON (`docs/dashboard.md`)
//! /api/stream    the same as server-sent events: at once, and whenever it has changed, at most once a second
//! /files/NAME    a file of the run directory
//! /metrics       for Prometheus
//! ```
//! Nothing here changes a run. On loopback everybody on the machine may look, beyond it who has the token, and no more than 64 at a time. For
//! the stream a snapshot is made and written down once a second for all who look, and not at all while nobody does. All of it
//! happens on a thread of its own, which holds the run's board for as long as copying it takes.
#![forbid(unsafe_code)]

mod access;
mod assets;
mod error;
mod routes;
mod stream;
mod visitors;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use signvote_observe::{Live, RunDirectory};
use tokio::sync::oneshot;

pub use access::Token;
pub use error::Error;

use access::Access;
use stream::Published;
use visitors::Visitors;

/// How long the last snapshot may take to reach those who look.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where a page will be, and for whom: the address is taken, so that whatever else a run needs can be made after it.
#[derive(Debug)]
pub struct Entrance {
    listener: std::net::TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

impl Entrance {
    /// Takes an address; beyond loopback there must be a token.
    ///
    /// # Errors
    /// If the address is taken, or is not loopback and there is no token.
    pub fn open(address: SocketAddr, token: Option<Token>) -> Result<Self, Error> {
        if !address.ip().is_loopback() && token.is_none() {
            return Err(Error::Open { address });
        }
        let listen = |source| Error::Listen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address, token })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to type into a browser.
    pub fn url(&self) -> String {
        let query = self.token.as_ref().map(|token| format!("?token={}", token.text())).unwrap_or_default();
        format!("http://{}/{query}", self.address)
    }

    /// Serves a run's page there, with the files of `directory`.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn serve(self, run: Live, directory: Option<PathBuf>) -> Result<Dashboard, Error> {
        let Self { listener, address, token } = self;
        let cannot = |source| Error::Listen { address, source };
        let published = Published::new(run, directory.map(RunDirectory::made_by_another));
        let router = routes::router(published.clone(), Access { token, port: address.port() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let (stop, stopped) = oneshot::channel();
        let publishing = published.clone();
        let serve = move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = publishing.publish() => {}
                    _ = axum::serve(Visitors::new(listener), router).into_future() => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("dashboard".into()).spawn(serve).map_err(cannot)?;
        Ok(Dashboard { published, stop: Some(stop), thread: Some(thread) })
    }
}

/// A page that is being served, until this is dropped.
#[derive(Debug)]
pub struct Dashboard {
    published: Published,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Dashboard {
    /// Ends it, once those who look have been sent how the run stands now.
    pub fn close(mut self) {
        self.published.now();
        if self.published.is_watched() {
            thread::sleep(FAREWELL);
        }
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.end();
    }
}
