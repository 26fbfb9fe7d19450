//! The files of the page, made from `web/` and committed, so that cargo alone builds the program.

/// Address, content type, bytes.
pub(crate) const ASSETS: [(&str, &str, &[u8]); 3] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../assets/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_bytes!("../assets/app.js")),
    ("/app.css", "text/css; charset=utf-8", include_bytes!("../assets/app.css")),
];
