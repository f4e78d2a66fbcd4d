//! W3C Trace Context: continues the trace of a valid `traceparent` or starts a new one, and decides which
//! new traces are recorded.

use std::fmt::{self, Write};

use http::HeaderName;

use crate::hex;

/// Trace id, span id, parent id and flags of one of the gateway's spans (W3C Trace Context).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    /// 0 if the trace starts here.
    parent: u64,
    flags: u8,
}

impl TraceContext {
    /// The header that carries the context.
    pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

    /// Starts a new trace, recorded with probability `ratio`.
    pub fn new_root(ratio: SampleRatio) -> Self {
        // Zero is the only invalid id (W3C Trace Context, 3.2.2.3 and 3.2.2.4).
        let trace = rand::random::<u128>().max(1);
        Self {
            trace,
            span: rand::random::<u64>().max(1),
            parent: 0,
            flags: RANDOM | u8::from(ratio.includes(trace)),
        }
    }

    /// Returns a new span in the trace of `traceparent`; `None` if the value is malformed.
    pub fn from_traceparent(traceparent: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(traceparent).ok()?;
        let mut parts = text.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Version 00 has exactly four parts, later ones may append parts, ff is invalid (section 3.2.2).
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
            // Unknown flags are not passed on (level 1, section 3.2.2.5).
            flags: flags & (SAMPLED | RANDOM),
        })
    }

    /// A fixed span for tests.
    #[cfg(test)]
    pub(crate) const FOR_TEST: Self = Self {
        trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
        span: 0x00f0_67aa_0ba9_02b7,
        parent: 0,
        flags: SAMPLED,
    };

    /// Returns a new child span.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span: rand::random::<u64>().max(1),
            parent: self.span,
            ..*self
        }
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns trace id, span id and parent id; the parent is 0 where the trace starts.
    pub fn ids(&self) -> (u128, u64, u64) {
        (self.trace, self.span, self.parent)
    }

    /// Returns the value of a `traceparent` header.
    pub fn traceparent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex::write(&self.trace.to_be_bytes(), &mut text[3..35]);
        hex::write(&self.span.to_be_bytes(), &mut text[36..52]);
        hex::write(&[self.flags], &mut text[53..]);
        text
    }
}

/// The ratio of recorded traces among those that start here. Decided by the trace id alone, so that all
/// replicas with the same ratio agree about a trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SampleRatio(u64);

impl SampleRatio {
    /// Records no trace.
    pub const NONE: Self = Self(0);

    /// Creates a ratio between 0.0 (none) and 1.0 (all); other values are clamped.
    pub fn new(ratio: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 2^63 by then"
        )]
        let bound = (ratio.clamp(0.0, 1.0) * RANDOM_RANGE) as u64;
        Self(bound)
    }

    fn includes(self, trace: u128) -> bool {
        // The rightmost bytes are the random ones (W3C Trace Context level 2, random-trace-id flag).
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

fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let hex = text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    hex.then(|| u128::from_str_radix(text, 16).ok())?
}

/// The `sampled` flag (W3C Trace Context, 3.2.2.5.1).
const SAMPLED: u8 = 1;

/// The `random-trace-id` flag of level 2: the right half of the trace id is random. Kept, since services
/// behind sample by that half; set for our own traces, whose ids are random.
const RANDOM: u8 = 2;

/// The number of values of the 63 random bits that `includes` compares.
const RANDOM_RANGE: f64 = (1_u64 << 63) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_parent_is_continued_with_a_new_span() {
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
        let (trace, span, parent_id) = context.ids();
        assert_eq!(parent_id, 0x00f0_67aa_0ba9_02b7);
        let child = context.child();
        assert!(child.is_sampled());
        assert_eq!((child.ids().0, child.ids().2), (trace, span));
        assert_ne!(child.ids().1, span);
    }

    #[test]
    fn the_random_flag_is_kept_and_set_for_new_traces() {
        let flags = |text: &str| {
            let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{text}");
            let context = TraceContext::from_traceparent(parent.as_bytes()).expect("valid");
            (
                context.is_sampled(),
                context.child().to_string()[53..].to_owned(),
            )
        };
        assert_eq!(flags("00"), (false, "00".to_owned()));
        assert_eq!(flags("02"), (false, "02".to_owned()));
        assert_eq!(flags("03"), (true, "03".to_owned()));
        assert_eq!(flags("ff"), (true, "03".to_owned()));
        let root = TraceContext::new_root(SampleRatio::NONE).to_string();
        assert!(root.ends_with("-02"), "{root}");
    }

    #[test]
    fn the_ratio_of_recorded_traces_is_as_configured() {
        let recorded = |ratio| {
            let started = (0..10_000).map(|_| TraceContext::new_root(SampleRatio::new(ratio)));
            started.filter(TraceContext::is_sampled).count()
        };
        assert_eq!(recorded(0.0), 0);
        assert_eq!(recorded(1.0), 10_000);
        // Ten standard deviations.
        assert!((2_000..3_000).contains(&recorded(0.25)));
        assert!(!TraceContext::new_root(SampleRatio::NONE).is_sampled());
    }

    #[test]
    fn a_malformed_parent_is_ignored() {
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
