//! The status page: embedded files, no external resources.

use http::StatusCode;

use super::respond::{self, AdminResponse};

/// Returns the file of the status page at `path`, if there is one.
pub(super) fn asset(path: &str) -> Option<AdminResponse> {
    let (content_type, text) = match path {
        "/" => (HTML, include_str!("page/page.html")),
        "/page.css" => (CSS, include_str!("page/page.css")),
        "/panels.css" => (CSS, include_str!("page/panels.css")),
        "/callers.js" => (SCRIPT, include_str!("page/callers.js")),
        "/charts.js" => (SCRIPT, include_str!("page/charts.js")),
        "/columns.js" => (SCRIPT, include_str!("page/columns.js")),
        "/commands.js" => (SCRIPT, include_str!("page/commands.js")),
        "/elements.js" => (SCRIPT, include_str!("page/elements.js")),
        "/findings.js" => (SCRIPT, include_str!("page/findings.js")),
        "/keys.js" => (SCRIPT, include_str!("page/keys.js")),
        "/nodes.js" => (SCRIPT, include_str!("page/nodes.js")),
        "/numbers.js" => (SCRIPT, include_str!("page/numbers.js")),
        "/page.js" => (SCRIPT, include_str!("page/page.js")),
        "/runbook.js" => (SCRIPT, include_str!("page/runbook.js")),
        "/settings.js" => (SCRIPT, include_str!("page/settings.js")),
        "/sparkline.js" => (SCRIPT, include_str!("page/sparkline.js")),
        "/table.js" => (SCRIPT, include_str!("page/table.js")),
        "/tails.js" => (SCRIPT, include_str!("page/tails.js")),
        "/verdict.js" => (SCRIPT, include_str!("page/verdict.js")),
        "/icon.svg" => (ICON, include_str!("page/icon.svg")),
        "/icon-warning.svg" => (ICON, include_str!("page/icon-warning.svg")),
        "/icon-critical.svg" => (ICON, include_str!("page/icon-critical.svg")),
        "/troubleshooting.md" => (MARKDOWN, include_str!("../../deploy/troubleshooting.md")),
        _ => return None,
    };
    Some(respond::with_content_type(
        StatusCode::OK,
        content_type,
        text,
    ))
}

const CSS: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";
/// The runbook is shown as it is by a browser that is led to it.
const MARKDOWN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
