//! The bodies that a client may have signed instead of the one that it sent.

use std::borrow::Cow;

use encoding_rs::GBK;

use super::Mistake;
use super::json_style::{COMPACT, SPACED, Style, lay_out, pretty};

/// Calls `try_body` with each of them until it returns true. Returns whether it did.
pub(super) fn each(sent: &[u8], try_body: &mut dyn FnMut(Mistake, Vec<u8>) -> bool) -> bool {
    let mut try_other = |mistake, body: Vec<u8>| body != sent && try_body(mistake, body);
    let text = str::from_utf8(sent.strip_prefix(BOM).unwrap_or(sent)).ok();
    // A body without its line end or mark is also laid out anew: what is simpler comes first.
    each_line_end(sent, &mut try_other)
        || each_bom(sent, &mut try_other)
        || text.is_some_and(|text| each_layout(text, &mut try_other))
        || each_encoding(sent, text, &mut try_other)
}

fn each_layout(text: &str, try_body: &mut dyn FnMut(Mistake, Vec<u8>) -> bool) -> bool {
    for (mistake, style) in STYLES {
        if let Some(body) = lay_out(text, *style)
            && try_body(*mistake, body.into())
        {
            return true;
        }
    }
    // PHP escapes slashes.
    let compact = lay_out(text, COMPACT).unwrap_or_default();
    let plain = text.replace("\\/", "/");
    [text, &compact, &plain].into_iter().any(|text| {
        let escaped = text.replace("\\/", "/").replace('/', "\\/");
        try_body(Mistake::BodySlashEscaped, escaped.into())
            || try_body(Mistake::BodySlashEscaped, text.replace("\\/", "/").into())
    })
}

fn each_line_end(sent: &[u8], try_body: &mut dyn FnMut(Mistake, Vec<u8>) -> bool) -> bool {
    let bare = sent.strip_suffix(b"\n").unwrap_or(sent);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    [&b""[..], b"\n", b"\r\n"]
        .into_iter()
        .any(|end| try_body(Mistake::BodyLineEnd, [bare, end].concat()))
}

fn each_bom(sent: &[u8], try_body: &mut dyn FnMut(Mistake, Vec<u8>) -> bool) -> bool {
    let other = match sent.strip_prefix(BOM) {
        Some(bare) => bare.to_vec(),
        None => [BOM, sent].concat(),
    };
    try_body(Mistake::BodyBom, other)
}

fn each_encoding(
    sent: &[u8],
    text: Option<&str>,
    try_body: &mut dyn FnMut(Mistake, Vec<u8>) -> bool,
) -> bool {
    let gbk = match text {
        Some(text) => {
            let (bytes, _, is_lossy) = GBK.encode(text);
            (!is_lossy).then(|| bytes.into_owned())
        }
        // Sent in GBK, and signed as UTF-8.
        None => GBK
            .decode_without_bom_handling_and_without_replacement(sent)
            .map(Cow::into_owned)
            .map(String::into_bytes),
    };
    if gbk.is_some_and(|body| try_body(Mistake::BodyGbk, body)) {
        return true;
    }
    let Some(text) = text else { return false };
    let bytes = |mark: &[u8], order: fn(u16) -> [u8; 2]| {
        let units = text.encode_utf16().flat_map(order);
        mark.iter().copied().chain(units).collect()
    };
    [
        bytes(b"", u16::to_le_bytes),
        bytes(b"\xff\xfe", u16::to_le_bytes),
        bytes(b"", u16::to_be_bytes),
        bytes(b"\xfe\xff", u16::to_be_bytes),
    ]
    .into_iter()
    .any(|body| try_body(Mistake::BodyUtf16, body))
}

const STYLES: &[(Mistake, Style)] = &[
    (Mistake::BodyCompact, COMPACT),
    (Mistake::BodySpaced, SPACED),
    (Mistake::BodyPretty, pretty("  ", ": ")),
    (Mistake::BodyPretty, pretty("    ", ": ")),
    (Mistake::BodyPretty, pretty("\t", ": ")),
    // Jackson.
    (Mistake::BodyPretty, pretty("  ", " : ")),
    (Mistake::BodySorted, COMPACT.sorted()),
    (Mistake::BodySorted, SPACED.sorted()),
    (Mistake::BodySorted, pretty("  ", ": ").sorted()),
    (Mistake::BodySorted, pretty("    ", ": ").sorted()),
];

const BOM: &[u8] = b"\xef\xbb\xbf";
