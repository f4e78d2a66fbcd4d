//! How a failed command reports its error, as text or as JSON.

use std::fmt;

use serde_json::{Value, json};

/// An error with advice on what to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    help: &'static str,
}

impl Failure {
    /// Creates an error; `help` is one sentence without a final period.
    pub(super) fn new(message: impl fmt::Display, help: &'static str) -> Self {
        Self {
            message: message.to_string(),
            help,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.message, self.help)
    }
}

impl std::error::Error for Failure {}

/// Returns `{ "error": { "message", "help" } }`; `help` is null if there is no advice.
pub(super) fn to_json(error: &anyhow::Error) -> Value {
    let (message, help) = if let Some(Failure { message, help }) = error.downcast_ref() {
        (message.clone(), Some(*help))
    } else if let Some(usage) = error.downcast_ref::<clap::Error>() {
        return usage_to_json(usage);
    } else {
        (format!("{error:#}"), None)
    };
    json!({ "error": { "message": message, "help": help } })
}

/// Returns the first paragraph of a usage error as the message.
pub(super) fn usage_to_json(error: &clap::Error) -> Value {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message).trim();
    json!({ "error": { "message": message, "help": "try '--help'" } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_its_message_and_its_help() {
        let failure = anyhow::Error::new(Failure::new("it failed", "try again"));
        assert_eq!(
            to_json(&failure),
            json!({ "error": { "message": "it failed", "help": "try again" } })
        );
        assert_eq!(format!("{failure:#}"), "it failed\ntry again");
        let plain = anyhow::anyhow!("the cause").context("it failed");
        assert_eq!(
            to_json(&plain),
            json!({ "error": { "message": "it failed: the cause", "help": null } })
        );
        let kind = clap::error::ErrorKind::ValueValidation;
        let usage = clap::Error::raw(kind, "no URL\n\nFor more information, try '--help'.\n");
        assert_eq!(
            to_json(&usage.into()),
            json!({ "error": { "message": "no URL", "help": "try '--help'" } })
        );
    }
}
