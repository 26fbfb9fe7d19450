//! What there is to be had.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use signvote_observe::prometheus;
use tokio_util::io::ReaderStream;

use crate::access::{Access, guard};
use crate::assets::ASSETS;
use crate::stream::Published;

pub(crate) fn router(published: Published, access: Access) -> Router {
    let mut router = Router::new()
        .route("/api/snapshot", get(snapshot))
        .route("/api/stream", get(stream))
        .route("/files/{name}", get(file))
        .route("/metrics", get(metrics));
    for (address, kind, bytes) in ASSETS {
        router = router.route(address, get(move || async move { ([(CONTENT_TYPE, kind)], bytes) }));
    }
    router
        .with_state(published)
        .layer(from_fn_with_state(access, guard))
        .layer(map_response(with_rules_for_browsers))
}

/// Nothing comes from elsewhere, nobody else shows this page within theirs, and a new program's page is not an old one's.
async fn with_rules_for_browsers(mut response: Response) -> Response {
    let rules = [
        (
            "content-security-policy",
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; \
             base-uri 'none'; form-action 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    let headers = response.headers_mut();
    for (name, value) in rules {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn snapshot(State(published): State<Published>) -> Response {
    match serde_json::to_string(&published.snapshot()) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn stream(State(published): State<Published>) -> Response {
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(published.stream())).into_response()
}

async fn metrics(State(published): State<Published>) -> Response {
    let text = prometheus(&published.snapshot());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// A file, if it is one of those that are named: no path leads out of the directory.
async fn file(State(published): State<Published>, Path(name): Path<String>) -> Response {
    let not_there = (StatusCode::NOT_FOUND, "there is no such file\n");
    let Some(directory) = &published.directory else { return not_there.into_response() };
    let Some(name) = directory.files().into_iter().find(|file| *file == name) else {
        return not_there.into_response();
    };
    let Ok(file) = tokio::fs::File::open(directory.path().join(name)).await else {
        return not_there.into_response();
    };
    // As long as it is now: the log goes on.
    let length = file.metadata().await.map_or(0, |metadata| metadata.len());
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (CONTENT_LENGTH, length.to_string()),
    ];
    let bytes = tokio::io::AsyncReadExt::take(file, length);
    (headers, Body::from_stream(ReaderStream::new(bytes))).into_response()
}
