//! W3C trace context: continued from a valid `traceparent`, or begun; and which traces are recorded.

use std::fmt::{self, Write};

use http::HeaderName;

/// Trace id, span id and flags of one span of the gateway's part of a trace (W3C Trace Context,
/// level 1), and which span it came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    /// 0 if the trace begins here.
    parent: u64,
    flags: u8,
}

impl TraceContext {
    /// The field that it travels in.
    pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

    /// A new trace, recorded if `share` says so.
    pub fn new_root(share: SampleRatio) -> Self {
        // Zero is the one invalid value of both ids.
        let trace = rand::random::<u128>().max(1);
        Self {
            trace,
            span: rand::random::<u64>().max(1),
            parent: 0,
            flags: u8::from(share.includes(trace)),
        }
    }

    /// A new span in the trace of `traceparent`; `None` if that is not of its form.
    pub fn from_traceparent(traceparent: &[u8]) -> Option<Self> {
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
        let parent = lower_hex(parent, 16).filter(|&id| id != 0)?;
        let flags = u8::try_from(lower_hex(flags, 2)?).ok()?;
        Some(Self {
            trace,
            span: rand::random::<u64>().max(1),
            parent: u64::try_from(parent).ok()?,
            flags: flags & SAMPLED,
        })
    }

    /// A span that tests know.
    #[cfg(test)]
    pub(crate) const FOR_TEST: Self = Self {
        trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
        span: 0x00f0_67aa_0ba9_02b7,
        parent: 0,
        flags: SAMPLED,
    };

    /// A new span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span: rand::random::<u64>().max(1),
            parent: self.span,
            ..*self
        }
    }

    /// Is the trace recorded?
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Trace, span and the span it came from, which is 0 where a trace begins.
    pub fn ids(&self) -> (u128, u64, u64) {
        (self.trace, self.span, self.parent)
    }

    /// The value of a `traceparent` field. Written for every try, so without the machinery of `fmt`.
    pub fn traceparent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut hex = |at: usize, digits: usize, number: u128| {
            for (index, digit) in text.iter_mut().skip(at).take(digits).enumerate() {
                *digit = DIGITS[(number >> (4 * (digits - 1 - index))) as usize & 15];
            }
        };
        hex(3, 32, self.trace);
        hex(36, 16, self.span.into());
        hex(53, 2, self.flags.into());
        text
    }
}

/// The share of the traces begun here that is recorded. Judged by the trace id alone, so that all who
/// know the share agree on a trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SampleRatio(u64);

impl SampleRatio {
    /// No trace.
    pub const NONE: Self = Self(0);

    /// From 0.0, none, to 1.0, all; what lies outside is taken for the nearer end.
    pub fn new(share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 2^63 by then"
        )]
        let bound = (share.clamp(0.0, 1.0) * RANDOM_RANGE) as u64;
        Self(bound)
    }

    fn includes(self, trace: u128) -> bool {
        // The right half of a trace id is the one that is sure to be random.
        #[expect(clippy::cast_possible_truncation, reason = "the right half")]
        let random = trace as u64 >> 1;
        random < self.0
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.traceparent()
            .iter()
            .try_for_each(|&byte| f.write_char(char::from(byte)))
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let hex = text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    hex.then(|| u128::from_str_radix(text, 16).ok())?
}

/// The one flag of level 1 that we know.
const SAMPLED: u8 = 1;

/// How many values the random part of a trace id has that is looked at.
const RANDOM_RANGE: f64 = (1_u64 << 63) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_parent_is_followed_with_a_new_span() {
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::from_traceparent(parent).expect("valid");
        let text = context.to_string();
        assert!(
            text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
            "{text}"
        );
        assert!(
            text.ends_with("-01") && !text.contains("00f067aa0ba902b7"),
            "{text}"
        );
        assert!(context.is_sampled());
        let (trace, span, from) = context.ids();
        assert_eq!(from, 0x00f0_67aa_0ba9_02b7);
        let child = context.child();
        assert!(child.is_sampled());
        assert_eq!((child.ids().0, child.ids().2), (trace, span));
        assert_ne!(child.ids().1, span);
    }

    #[test]
    fn the_share_of_recorded_traces_is_as_configured() {
        let recorded = |share| {
            let begun = (0..10_000).map(|_| TraceContext::new_root(SampleRatio::new(share)));
            begun.filter(TraceContext::is_sampled).count()
        };
        assert_eq!(recorded(0.0), 0);
        assert_eq!(recorded(1.0), 10_000);
        // Ten standard deviations.
        assert!((2_000..3_000).contains(&recorded(0.25)));
        assert!(!TraceContext::new_root(SampleRatio::NONE).is_sampled());
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
            assert_eq!(
                TraceContext::from_traceparent(bad.as_bytes()),
                None,
                "{bad}"
            );
        }
    }
}
