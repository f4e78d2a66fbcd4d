//! Types and flags of frames (RFC 9113, 6).

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const CONTINUATION: u8 = 0x9;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// The bits of a stream's number, without the reserved one (RFC 9113, 4.1).
pub(super) const STREAM_MASK: u32 = 0x7fff_ffff;
