//! `tail`: the requests of a running gateway, as they end.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use bytes::Bytes;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::AdminArgs;
use super::table::replace_control_chars;
use crate::cli::failure::Failure;
use crate::cli::signals;
use crate::words;

/// Follows the requests of a running gateway as they end
///
/// On a terminal each request is a line of columns, with the time in UTC. With --json, and where standard
/// output is no terminal, it is the object of the access log (NDJSON), also where the access log is off.
/// A reader that is too slow loses lines: {"lost":N}. Ends with the gateway, or at Ctrl-C. The gateway
/// needs a token (admin.token_file); at most eight can follow at once.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Tail {
    #[command(flatten)]
    pub(in crate::cli) target: AdminArgs,
    /// Only requests that verified with this access key
    #[arg(long, value_name = "AK")]
    ak: Option<String>,
    /// Only requests for this call
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// Only requests with this gw.outcome: node, cached, unauthenticated, rate_limited, …
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
}

impl Tail {
    /// Prints requests until the gateway ends, the reader of the output is gone, or a signal arrives.
    ///
    /// # Errors
    /// The gateway cannot be reached or rejects the request, or the connection breaks.
    pub async fn run(&self) -> anyhow::Result<ExitCode> {
        let mut stop = pin!(signals::shutdown_signal()?);
        let path = self.path();
        let mut response = tokio::select! {
            response = self.target.open(&path) => response?,
            () = &mut stop => return Ok(ExitCode::SUCCESS),
        };
        if !response.status.is_success() {
            response.collect().await?.success_json()?;
            return Ok(ExitCode::FAILURE);
        }
        let mut printer = Printer::new(!self.target.json && io::stdout().is_terminal());
        loop {
            // A reader that stands still must not keep the signal from ending the command.
            let step = async {
                let lines = response.chunk().await.map_err(|error| broken(&error))?;
                anyhow::Ok(printer.print(lines).await?)
            };
            tokio::select! {
                goes_on = step => if !goes_on? { break },
                () = &mut stop => return Ok(ExitCode::SUCCESS),
            }
        }
        writeln!(io::stderr(), "the gateway has shut down")?;
        Ok(ExitCode::SUCCESS)
    }

    fn path(&self) -> String {
        let parameters = [
            ("ak", &self.ak),
            ("call_id", &self.call_id),
            ("outcome", &self.outcome),
        ];
        let pairs = parameters.into_iter().filter_map(|(name, value)| {
            let value = utf8_percent_encode(value.as_ref()?, NON_ALPHANUMERIC);
            Some(format!("{name}={value}"))
        });
        format!("/tail?{}", pairs.collect::<Vec<_>>().join("&"))
    }
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::new(
        format!("the connection to the gateway broke: {error}"),
        BROKEN_HELP,
    )
}

/// Cuts what arrives into lines, and prints them.
#[derive(Debug)]
struct Printer {
    is_text: bool,
    is_begun: bool,
    /// The begin of a line.
    rest: Vec<u8>,
}

impl Printer {
    fn new(is_text: bool) -> Self {
        Self {
            is_text,
            is_begun: false,
            rest: Vec::new(),
        }
    }

    /// Prints the whole lines; returns false at the end of the response. Waits on another thread, since
    /// standard output may stand still.
    async fn print(&mut self, chunk: Option<Bytes>) -> io::Result<bool> {
        let Some(chunk) = chunk else {
            return Ok(false);
        };
        let text = self.lines(&chunk)?;
        if !text.is_empty() {
            let write = move || {
                // Drops the colours where they are not wanted.
                let mut out = anstream::stdout().lock();
                out.write_all(&text)?;
                out.flush()
            };
            tokio::task::spawn_blocking(write).await??;
        }
        Ok(true)
    }

    /// Returns the text of the lines that are whole now.
    fn lines(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        if self.is_text && !self.is_begun {
            text.extend_from_slice(titles().as_bytes());
        }
        self.is_begun = true;
        self.rest.extend_from_slice(chunk);
        let end = self.rest.iter().rposition(|&byte| byte == b'\n');
        let whole: Vec<u8> = self.rest.drain(..end.map_or(0, |end| end + 1)).collect();
        if self.rest.len() > MAX_LINE {
            return Err(io::Error::other("this is not the output of a gateway"));
        }
        if !self.is_text {
            return Ok(whole);
        }
        for line in whole.split(|&byte| byte == b'\n') {
            if let Ok(request) = serde_json::from_slice(line) {
                text.extend_from_slice(as_text(&request).as_bytes());
            }
        }
        Ok(text)
    }
}

fn titles() -> String {
    columns(TITLES, Style::new()) + "\n"
}

/// Formats a request as a line of columns.
fn as_text(request: &Value) -> String {
    if let Some(lost) = request["lost"].as_u64() {
        let style = Style::new().fg_color(Some(AnsiColor::Yellow.into()));
        let requests = words::count(lost, "request");
        return format!("{style}… {requests} not shown: the reader is too slow{style:#}\n");
    }
    let text = |name: &str| match &request[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => replace_control_chars(text),
        other => other.to_string(),
    };
    let time = text("timestamp");
    let time = time.get(11..23).unwrap_or(&time);
    let milliseconds = request["gw.duration_ms"].as_f64().unwrap_or_default();
    let style = style(request);
    let cells = [
        time,
        &text("http.response.status_code"),
        &text("gw.outcome"),
        &format!("{milliseconds:.1}"),
        &text("gw.ak"),
        &text("gw.call_id"),
        &text("gw.result_code"),
        &text("gw.cache"),
        &text("gw.node"),
    ];
    let mut line = columns(cells, style);
    for name in ["gw.reject_reason", "gw.hint", "gw.would_refuse"] {
        if !request[name].is_null() {
            line.push_str("  ");
            line.push_str(&text(name));
        }
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// Aligns the cells of a line; the style is of status and outcome.
fn columns(cells: [&str; 9], style: Style) -> String {
    let [
        time,
        status,
        outcome,
        milliseconds,
        access_key,
        call,
        code,
        cache,
        node,
    ] = cells;
    format!(
        "{time:<12}  {style}{status:<6}  {outcome:<15}{style:#}  {milliseconds:>8}  {access_key:<16}  {call:<18}  {code:<7}  {cache:<8}  {node}"
    )
}

/// Returns red for what failed, yellow for what was refused.
fn style(request: &Value) -> Style {
    let color = match request["http.response.status_code"].as_u64() {
        Some(500..) | Some(0) => AnsiColor::Red,
        Some(400..) => AnsiColor::Yellow,
        _ => return Style::new(),
    };
    Style::new().fg_color(Some(color.into()))
}

const TITLES: [&str; 9] = [
    "TIME (UTC)",
    "STATUS",
    "OUTCOME",
    "MS",
    "ACCESS KEY",
    "CALL",
    "CODE",
    "CACHE",
    "NODE",
];

/// The gateway's longest lines are far shorter.
const MAX_LINE: usize = 1 << 20;

const BROKEN_HELP: &str = "the gateway ended at once, or this reader stood still for half a minute; `ccfs-gateway status` tells";

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway tail --token-file admin.token
  ccfs-gateway tail --ak 279a08bbd8d949a0 --outcome rate_limited
  ccfs-gateway tail --call-id 1637742300-27 --json | jq .
  ccfs-gateway tail | jq -c 'select(.\"gw.duration_ms\" > 1000)'";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_whole_and_columns_are_aligned() {
        let mut printer = Printer::new(true);
        let line = json!({
            "timestamp": "2026-01-02T03:04:05.678Z", "http.response.status_code": 200,
            "gw.outcome": "cached", "gw.ak": "ak\u{202e}", "gw.call_id": "1637742300-27",
            "gw.result_code": "0", "gw.cache": "hit", "gw.duration_ms": 1.25,
        });
        let line = format!("{line}\n{{\"lost\":3}}\n");
        let (first, second) = line.as_bytes().split_at(20);
        let titles = titles();
        assert_eq!(printer.lines(first).unwrap(), titles.as_bytes());
        let text = String::from_utf8(printer.lines(second).unwrap()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        let column = |title: &str| titles.find(title).unwrap();
        for (title, value) in [
            ("TIME", "03:04:05.678"),
            ("ACCESS KEY", "ak\u{fffd}"),
            ("CODE", "0 "),
            ("CACHE", "hit"),
            ("NODE", "-"),
        ] {
            let at: String = lines[0].chars().skip(column(title)).collect();
            assert!(at.starts_with(value), "{title}\n{titles}{text}");
        }
        assert!(lines[1].contains("3 requests not shown"), "{text}");
    }

    #[test]
    fn failures_and_refusals_have_a_colour() {
        for (status, escape) in [(503, "\u{1b}[31m"), (0, "\u{1b}[31m"), (429, "\u{1b}[33m")] {
            let line = as_text(&json!({ "http.response.status_code": status }));
            assert!(line.contains(escape), "{line:?}");
        }
        let line = as_text(&json!({ "http.response.status_code": 200 }));
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn objects_are_passed_on_as_they_are() {
        let mut printer = Printer::new(false);
        assert_eq!(printer.lines(b"{\"a\":").unwrap(), b"");
        assert_eq!(printer.lines(b"1}\n{").unwrap(), b"{\"a\":1}\n");
        assert!(printer.lines(&vec![b'x'; MAX_LINE]).is_err());
    }
}
