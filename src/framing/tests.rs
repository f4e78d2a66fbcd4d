use super::*;
use proptest::prelude::*;

/// Refuses the fields of the tests that must not trail.
fn may_trail(name: &[u8]) -> bool {
    let refused = [
        "authorization",
        "content-length",
        "content_length",
        "host",
        "transfer-encoding",
        "x-forwarded-for",
    ];
    let is = |field: &str| name.eq_ignore_ascii_case(field.as_bytes());
    !refused.into_iter().any(is)
}

/// Returns the result of a chunked body in pieces of `step` bytes: how much was consumed, and how it ended.
fn scan(body: &[u8], step: usize) -> (usize, bool, bool) {
    scan_within(ExtensionLimit::WholeBody, body, step)
}

fn scan_within(limit: ExtensionLimit, body: &[u8], step: usize) -> (usize, bool, bool) {
    let mut chunked = ChunkedScanner::new(limit, may_trail);
    let mut used = 0;
    for piece in body.chunks(step) {
        let step = chunked.advance(piece);
        used += step.consumed;
        if step.is_complete || step.is_invalid {
            return (used, step.is_complete, step.is_invalid);
        }
    }
    (used, false, false)
}

#[test]
fn chunked_bodies_are_followed_to_their_end() {
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "00005\r\nhello\r\n000\r\n\r\n",
        "5;a=b\r\nhello\r\n0;c\r\n\r\n",
        "5 ; a = \"q;\\\"\" ;b\r\nhello\r\n0\r\n\r\n",
        "0\r\nX-Sum: 1\r\nY:\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
    ] {
        let more = format!("{body}GET / HTTP/1.1");
        for step in [1, 2, 3, 1000] {
            assert_eq!(
                scan(more.as_bytes(), step),
                (body.len(), true, false),
                "{body:?}"
            );
        }
    }
}

#[test]
fn broken_chunks_are_found() {
    for body in [
        "\r\n",
        "g\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "5;\r\nhello\r\n",
        "5;a=\r\nhello\r\n",
        "5;a\0\r\nhello\r\n",
        "5;a b\r\nhello\r\n",
        "5;a=\"b\r\nhello\r\n",
        "5,5\r\nhello\r\n",
        "ffffffffffffffff\r\nx",
        "10000000000000005\r\nhello\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: x\r\n\r\n",
        "0\r\nAuthorization: x\r\n\r\n",
        "0\r\nContent_Length: 5\r\n\r\n",
        "0\r\nX-Forwarded-For: 5\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n folded: 1\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
    ] {
        for step in [1, 2, 1000] {
            let (_, done, broken) = scan(body.as_bytes(), step);
            assert!(broken && !done, "{body:?} in steps of {step}");
        }
    }
    let long = format!("5;a={}\r\n", "x".repeat(5000));
    assert!(scan(long.as_bytes(), 100).2);
}

/// Returns a body of `count` chunks of `size` bytes, with an extension of `extension` bytes each.
fn body_with_extensions(count: usize, size: usize, extension: usize) -> Vec<u8> {
    let extension = match extension {
        0 => String::new(),
        length => format!(";{}", "x".repeat(length - 1)),
    };
    let chunk = format!("{size:x}{extension}\r\n{}\r\n", "d".repeat(size));
    format!("{}0\r\n\r\n", chunk.repeat(count)).into_bytes()
}

#[test]
fn extensions_are_bounded_in_a_whole_body_or_relative_to_its_data() {
    use ExtensionLimit::{RelativeToData, WholeBody};
    for (count, size, extension, within_body, relative) in [
        (1, 5, 4000, true, true),
        (1, 5, 5000, false, false),
        // A long download whose chunks are signed, and one of a node that signs with a long name.
        (1000, 4096, 85, false, true),
        (100, 4096, 4000, false, true),
        // A flood of small chunks.
        (1000, 1, 18, false, true),
        (1000, 1, 30, false, false),
        (1000, 1, 0, true, true),
    ] {
        let body = body_with_extensions(count, size, extension);
        for (limit, passes) in [(WholeBody, within_body), (RelativeToData, relative)] {
            for step in [1, 1000] {
                let (_, done, broken) = scan_within(limit, &body, step);
                let case = (count, size, extension, limit, step);
                assert_eq!((done, broken), (passes, !passes), "{case:?}");
            }
        }
    }
    let trailers = format!("1\r\nx\r\n0\r\nX: {}\r\n\r\n", "x".repeat(5000));
    assert!(scan_within(RelativeToData, trailers.as_bytes(), 100).2);
}

proptest! {
    #[test]
    fn any_chunked_body_gets_the_same_verdict_however_cut(
        body in "([0-9a-f]{1,3}(;[a-z]=?[a-z\"]{0,3})?\r\n[a-z]{0,6}\r?\n?){0,3}(0\r\n)?([A-Za-z_]{1,6}: ?x\r\n)?(\r\n)?",
    ) {
        prop_assert_eq!(scan(body.as_bytes(), 1), scan(body.as_bytes(), 1000));
    }
}
