//! The live page of a run, over HTTP.
//!
//! ```text
//! /              the page: three files that are in the program
//! /api/snapshot  the status snapshot, as JSON (`docs/dashboard.md`)
//! /api/stream    the same as server-sent events: at once, and whenever it has changed, at most once a second
//! /files/NAME    a file of the run directory
//! /metrics       for Prometheus
//! ```
//! Nothing here changes a run. On loopback everybody on the machine may look, beyond it who has the token. A snapshot is made and written
//! down once a second for all who look, and not at all while nobody does; it happens on a thread of its own.
#![forbid(unsafe_code)]

mod access;
mod assets;
mod error;
mod routes;
mod stream;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use signvote_observe::{Live, RunDirectory};
use tokio::sync::oneshot;

pub use access::Token;
pub use error::Error;

use stream::Published;

/// How long the last snapshot may take to reach those who look.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where the page is, and for whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub address: SocketAddr,
    /// What who looks must know; needed beyond loopback.
    pub token: Option<Token>,
    /// Where the files are that can be had.
    pub directory: Option<PathBuf>,
}

/// A page that is being served, until this is dropped.
#[derive(Debug)]
pub struct Dashboard {
    address: SocketAddr,
    url: String,
    published: Published,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Dashboard {
    /// Serves a run's page.
    ///
    /// # Errors
    /// If the address is taken, or is not loopback and there is no token.
    pub fn serve(run: Live, options: Options) -> Result<Self, Error> {
        let Options { address, token, directory } = options;
        if !address.ip().is_loopback() && token.is_none() {
            return Err(Error::Open { address });
        }
        let listen = |source| Error::Listen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let query = token.as_ref().map(|token| format!("?token={}", token.text())).unwrap_or_default();
        let url = format!("http://{address}/{query}");
        let published = Published::new(run, directory.map(RunDirectory::made_by_another));
        let router = routes::router(published.clone(), token);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(listen)?;
        let (stop, stopped) = oneshot::channel();
        let publishing = published.clone();
        let serve = move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = publishing.publish() => {}
                    _ = axum::serve(listener, router).into_future() => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("dashboard".into()).spawn(serve).map_err(listen)?;
        Ok(Self { address, url, published, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to type into a browser.
    pub fn url(&self) -> &str {
        &self.url
    }

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
