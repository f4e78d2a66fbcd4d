//! `GET /signatures/{ak}`: the last signature of an access key that did not verify.

use http::StatusCode;
use serde_json::{Value, json};

use super::respond::{self, AdminResponse};
use super::{Admin, status};
use crate::gateway::LiveCase;

impl Admin {
    /// Shows the last case of an access key. It names values of a request that did not verify, so that it needs
    /// a token on loopback as well. An access key without a case and an unknown one look the same.
    pub(super) fn signature(&self, path: &str) -> AdminResponse {
        if !self.guard.has_token() {
            return respond::problem(StatusCode::FORBIDDEN, TOKEN_NEEDED);
        }
        let access_key = path.strip_prefix(PREFIX).unwrap_or_default();
        let access_key = percent_encoding::percent_decode_str(access_key).decode_utf8_lossy();
        let doctor = &self.state.shared.doctor;
        match doctor.live_case(&access_key, status::wall_clock()) {
            Some(case) => respond::json(StatusCode::OK, &to_json(&case)),
            None => respond::problem(StatusCode::NOT_FOUND, NO_CASE),
        }
    }
}

fn to_json(case: &LiveCase) -> Value {
    json!({
        "ak": case.access_key,
        "at": format!("{:.3}", case.at),
        "class": case.mistake.as_str(),
        "words": case.mistake.words(),
        "method": case.method,
        "path": case.path,
        "names": case.names,
        "timestamp": case.timestamp,
        "headers": case.headers,
        "lengths": case.lengths,
    })
}

/// The path before an access key.
pub(super) const PREFIX: &str = "/signatures/";

const TOKEN_NEEDED: &str = "this needs [admin] token_file, on a loopback address too";

const NO_CASE: &str =
    "no signature of this access key that did not verify was looked at in the last ten minutes";
