//! Who may look.

use std::net::IpAddr;
use std::str::FromStr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Error;

/// Who may look at the page at this port.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) token: Option<Token>,
    pub(crate) port: u16,
}

impl Access {
    /// Under which name a browser keeps the token once it has been told it. Cookies know of no ports, and there may be several runs on
    /// one machine.
    fn cookie(&self) -> String {
        format!("signvote-token-{}", self.port)
    }
}

/// What who looks from another machine must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether somebody knows it; takes as long for a near miss as for any other. (Hashes are compared, in constant time.)
    fn is(&self, guess: &str) -> bool {
        blake3::hash(self.0.as_bytes()) == blake3::hash(guess.as_bytes())
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        match (16..=128).contains(&text.len()) && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::Token),
        }
    }
}

/// Lets a request through, or not. With a token: who has it as a bearer, in a cookie, or in the address, which makes the cookie. Without
/// one: who has called this machine by the name of its loopback, so that no page from elsewhere can look through a browser here.
pub(crate) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let cookie = access.cookie();
    let Some(token) = access.token else {
        if is_loopback_name(headers) {
            return next.run(request).await;
        }
        return (StatusCode::MISDIRECTED_REQUEST, "call this page by 127.0.0.1 or localhost\n")
            .into_response();
    };
    if carried(headers, &cookie).any(|guess| token.is(guess)) {
        return next.run(request).await;
    }
    let mut query = request.uri().query().unwrap_or_default().split('&');
    if query.any(|pair| pair.strip_prefix("token=").is_some_and(|guess| token.is(guess))) {
        // The address is then without it: it would stay in the history, and in whatever is copied from there.
        // Lax: who follows a link from elsewhere is to see the page, on which nothing can be changed.
        let cookie = format!("{cookie}={}; HttpOnly; SameSite=Lax; Path=/", token.text());
        let location = request.uri().path().to_owned();
        return (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, location)]).into_response();
    }
    (
        StatusCode::UNAUTHORIZED,
        "this page needs its token: http://…/?token=TOKEN, as the run has printed it\n",
    )
        .into_response()
}

/// The tokens that a request carries.
fn carried<'a>(headers: &'a HeaderMap, cookie: &'a str) -> impl Iterator<Item = &'a str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let cookies = cookies.flat_map(|line| line.split("; "));
    bearer.into_iter().chain(cookies.filter_map(move |pair| pair.strip_prefix(cookie)?.strip_prefix('=')))
}

fn is_loopback_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_into_an_address() {
        assert!("abcdefgh-IJKLMN_0".parse::<Token>().is_ok());
        for wrong in ["short", "abcdefgh IJKLMN_0", "abcdefgh&token=12", ""] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_has_few_names() {
        let named = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            is_loopback_name(&headers)
        };
        for host in ["127.0.0.1:80", "localhost", "LOCALHOST:1", "[::1]:80", "[::1]", "127.9.9.9"] {
            assert!(named(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(!named(host), "{host}");
        }
        assert!(!is_loopback_name(&HeaderMap::new()));
    }
}
