//! The status page for people: three files, nothing from outside.

use http::StatusCode;

use super::respond::{self, Answer};

/// A file of the page, if `path` is one.
pub(super) fn file(path: &str) -> Option<Answer> {
    let (content_type, text) = match path {
        "/" => ("text/html; charset=utf-8", include_str!("page/page.html")),
        "/page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "/page.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/page.js"),
        ),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(respond::page(StatusCode::OK, content_type, text))
}
