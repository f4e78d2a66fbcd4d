//! Flags that inject faults.

use std::time::Duration;

use clap::Args;

use super::values;
use crate::stand_in::{Fault, Faults, FlowClass, FlowLimit, RateWindow, When};

/// The faults of a stand-in node.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Faults")]
pub(super) struct FaultFlags {
    /// Delay every response by this much
    #[arg(long, value_name = "DURATION", value_parser = values::parse_duration)]
    delay: Option<Duration>,
    /// Delay between the head and the body of every response
    #[arg(long, value_name = "DURATION", value_parser = values::parse_duration)]
    delay_body: Option<Duration>,
    /// Send response bodies byte by byte with this interval
    #[arg(long, value_name = "DURATION", value_parser = values::parse_duration)]
    drip: Option<Duration>,
    /// Respond with this HTTP status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    fail_status: Option<u16>,
    /// ... only to every n-th request
    #[arg(long, value_name = "N", requires = "fail_status")]
    fail_every: Option<u64>,
    /// Respond with 0300008 or 0300009 to every n-th request; 1: to all
    #[arg(long, value_name = "N")]
    flow_control_every: Option<u64>,
    /// Take this many requests at once, and refuse the others with 0300008 or 0300009
    #[arg(long, value_name = "K")]
    max_at_once: Option<u32>,
    /// Take this many requests a second, and refuse the others with 0300008 or 0300009
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_per_second: Option<u32>,
    /// How --max-per-second counts: bucket (a token bucket of one second) or fixed (windows of one
    /// second)
    #[arg(long, default_value = "bucket", requires = "max_per_second", value_parser = parse_window)]
    window: RateWindow,
    /// Which requests --max-at-once and --max-per-second limit: query, download, or all (each of the
    /// two for itself)
    #[arg(long, value_name = "CLASS", default_value = "all", value_parser = parse_class)]
    limit_class: LimitedClasses,
    /// Each access key has --max-at-once and --max-per-second for itself
    #[arg(long)]
    limit_per_ak: bool,
    /// Respond with this result code
    #[arg(long, value_name = "CODE")]
    result_code: Option<String>,
    /// Close the connection in the middle of every response body
    #[arg(long)]
    close_mid_body: bool,
    /// Fault by name, `NAME` or `NAME=N` for every n-th request; may be repeated: big-answer,
    /// chunked, close-after-answer, close-before-answer, close-in-body, close-in-head, flow-control,
    /// garbage-http, garbage-json, hang, hang-in-body, hop-by-hop-fields, interim,
    /// length-and-chunked, nul-in-field, reset, reset-in-body, surplus, two-lengths, until-close
    #[arg(long, value_name = "NAME", value_parser = parse_fault)]
    fault: Vec<(Fault, When)>,
    /// Respond with 0300012 (no data) for this callId; may be repeated
    #[arg(long, value_name = "CALL_ID")]
    unknown_call: Vec<String>,
}

impl FaultFlags {
    pub(super) fn inject(&self, faults: &Faults) {
        let every = |n: Option<u64>| n.map_or(When::Always, When::Every);
        if let Some(delay) = self.delay {
            faults.inject(Fault::DelayHead(delay), When::Always);
        }
        if let Some(delay) = self.delay_body {
            faults.inject(Fault::DelayBody(delay), When::Always);
        }
        if let Some(pause) = self.drip {
            faults.inject(Fault::Drip(1, pause), When::Always);
        }
        if let Some(status) = self.fail_status {
            faults.inject(Fault::Status(status), every(self.fail_every));
        }
        if let Some(n) = self.flow_control_every {
            faults.inject(Fault::FlowControl, When::Every(n));
        }
        let limit = FlowLimit {
            max_at_once: self.max_at_once,
            max_per_second: self.max_per_second,
            window: self.window,
            per_access_key: self.limit_per_ak,
        };
        for class in self.limit_class.0 {
            faults.set_flow_limit(*class, limit);
        }
        if let Some(code) = &self.result_code {
            faults.inject(Fault::ResultCode(code.clone()), When::Always);
        }
        if self.close_mid_body {
            faults.inject(Fault::CloseInBody, When::Always);
        }
        for (fault, when) in &self.fault {
            faults.inject(fault.clone(), *when);
        }
        for call_id in &self.unknown_call {
            faults.add_unknown_call(call_id);
        }
    }
}

/// The classes that a limit of the command line applies to.
#[derive(Clone, Copy, Debug)]
struct LimitedClasses(&'static [FlowClass]);

fn parse_class(name: &str) -> Result<LimitedClasses, &'static str> {
    Ok(LimitedClasses(match name {
        "query" => &[FlowClass::Query],
        "download" => &[FlowClass::Download],
        "all" => &[FlowClass::Query, FlowClass::Download],
        _ => return Err("one of query, download, all"),
    }))
}

fn parse_window(name: &str) -> Result<RateWindow, &'static str> {
    RateWindow::from_name(name).ok_or("one of bucket, fixed")
}

fn parse_fault(text: &str) -> Result<(Fault, When), &'static str> {
    let (name, when) = match text.split_once('=') {
        Some((name, n)) => (
            name,
            When::Every(n.parse().map_err(|_| "NAME=N needs a number")?),
        ),
        None => (text, When::Always),
    };
    let fault = match name {
        "big-answer" => Fault::BigResponse(2 * 1024 * 1024),
        "chunked" => Fault::Chunked,
        "close-after-answer" => Fault::CloseAfterResponse,
        "close-before-answer" => Fault::CloseBeforeResponse,
        "close-in-body" => Fault::CloseInBody,
        "close-in-head" => Fault::CloseInHead,
        "flow-control" => Fault::FlowControl,
        "garbage-http" => Fault::GarbageHttp,
        "garbage-json" => Fault::GarbageJson,
        "hang" => Fault::Hang,
        "hang-in-body" => Fault::HangInBody,
        "hop-by-hop-fields" => Fault::HopByHopHeaders,
        "interim" => Fault::Interim,
        "length-and-chunked" => Fault::ContentLengthAndChunked,
        "nul-in-field" => Fault::NulInHeaderValue,
        "reset" => Fault::Reset,
        "reset-in-body" => Fault::ResetInBody,
        "surplus" => Fault::ExtraResponse,
        "two-lengths" => Fault::ConflictingContentLengths,
        "until-close" => Fault::UntilClose,
        _ => return Err("no fault of this name; see --help"),
    };
    Ok((fault, when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_a_name_and_an_optional_schedule() {
        assert_eq!(parse_fault("hang"), Ok((Fault::Hang, When::Always)));
        assert_eq!(parse_fault("reset=3"), Ok((Fault::Reset, When::Every(3))));
        assert!(parse_fault("rest").is_err());
        assert!(parse_fault("hang=x").is_err());
    }
}
