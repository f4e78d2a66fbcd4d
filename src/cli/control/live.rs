//! `explain --live AK`: the last signature of an access key that did not verify, and the mistake by name.

use std::io::Write;
use std::process::ExitCode;

use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::table::replace_control_chars;
use super::{AdminArgs, COMMAND_TIMEOUT};

/// Prints the case of an access key; exit code 1 if there is none.
///
/// # Errors
/// Returns an error if the gateway cannot be reached or rejects the request.
pub(in crate::cli) async fn explain_live(
    target: &AdminArgs,
    access_key: &str,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let path = format!(
        "/signatures/{}",
        utf8_percent_encode(access_key, NON_ALPHANUMERIC)
    );
    let response = target.send(Method::GET, &path, COMMAND_TIMEOUT).await?;
    if response.status == StatusCode::NOT_FOUND {
        anyhow::bail!("{}", response.message());
    }
    let case = response.success_json()?;
    if target.json {
        writeln!(out, "{case:#}")?;
    } else {
        write_case(&case, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_case(case: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let text = |name: &str| replace_control_chars(case[name].as_str().unwrap_or_default());
    writeln!(out, "{}: {}", text("class"), text("words"))?;
    writeln!(out, "  at         {}", text("at"))?;
    writeln!(out, "  request    {} {}", text("method"), text("path"))?;
    writeln!(out, "  timestamp  {}", text("timestamp"))?;
    writeln!(out, "  names      {}", text("names"))?;
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        let value = replace_control_chars(value.as_str().unwrap_or_default());
        writeln!(out, "  {}: {value}", replace_control_chars(name))?;
    }
    for (name, length) in case["lengths"].as_object().into_iter().flatten() {
        writeln!(out, "  {}: {length} bytes", replace_control_chars(name))?;
    }
    Ok(())
}
