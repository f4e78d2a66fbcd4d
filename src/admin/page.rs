//! The status page: embedded files, no external resources.

use http::StatusCode;

use super::respond::{self, AdminResponse};

/// Returns the file of the status page at `path`, if there is one.
pub(super) fn asset(path: &str) -> Option<AdminResponse> {
    let (content_type, text) = match path {
        "/" => (HTML, include_str!("page/page.html")),
        "/page.css" => (CSS, include_str!("page/page.css")),
        "/page.js" => (SCRIPT, include_str!("page/page.js")),
        "/charts.js" => (SCRIPT, include_str!("page/charts.js")),
        "/elements.js" => (SCRIPT, include_str!("page/elements.js")),
        "/numbers.js" => (SCRIPT, include_str!("page/numbers.js")),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(respond::with_content_type(
        StatusCode::OK,
        content_type,
        text,
    ))
}

const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
