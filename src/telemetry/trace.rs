//! W3C trace context: continued from a valid `traceparent`, or begun.

use std::fmt;

/// Trace id, span id and flags of the gateway's part of a trace (W3C Trace Context, level 1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// A new trace.
    pub fn begin() -> Self {
        // Zero is the one invalid value of both ids.
        Self {
            trace: rand::random::<u128>().max(1),
            span: rand::random::<u64>().max(1),
            flags: 0,
        }
    }

    /// A new span in the trace of `traceparent`; `None` if that is not of its form.
    pub fn follow(traceparent: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(traceparent).ok()?;
        let mut parts = text.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may append parts; version ff is invalid and 00 has exactly four.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        lower_hex(version, 2)?;
        let trace = lower_hex(trace, 32).filter(|&id| id != 0)?;
        lower_hex(parent, 16).filter(|&id| id != 0)?;
        let flags = u8::try_from(lower_hex(flags, 2)?).ok()?;
        Some(Self {
            trace,
            span: rand::random::<u64>().max(1),
            flags: flags & 1,
        })
    }

    /// The trace id, 32 hex digits.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        let trace = self.trace;
        fmt::from_fn(move |f| write!(f, "{trace:032x}"))
    }

    /// The span id, 16 hex digits.
    pub fn span_id(&self) -> impl fmt::Display + use<> {
        let span = self.span;
        fmt::from_fn(move |f| write!(f, "{span:016x}"))
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace, self.span, self.flags
        )
    }
}

fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let hex = text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    hex.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_parent_is_followed_with_a_new_span() {
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::follow(parent).expect("valid");
        let text = context.to_string();
        assert!(
            text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
            "{text}"
        );
        assert!(
            text.ends_with("-01") && !text.contains("00f067aa0ba902b7"),
            "{text}"
        );
    }

    #[test]
    fn anything_else_begins_anew() {
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(TraceContext::follow(bad.as_bytes()), None, "{bad}");
        }
    }
}
