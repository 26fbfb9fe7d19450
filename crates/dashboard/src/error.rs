use std::io;
use std::net::SocketAddr;

/// What keeps a page from being served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Beyond loopback without a token.
    #[error(
        "a page at {address} can be seen by others: pass a token, or an address of loopback such as 127.0.0.1:8080"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// A token that does not fit into an address.
    #[error("a token has 16 to 128 letters, digits, '-' or '_'; this one has not")]
    Token,
    /// It cannot listen there.
    #[error("the page cannot be served at {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}
