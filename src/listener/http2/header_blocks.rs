//! Reads the header blocks out of the frames that carry them, and finds the requests that h2 would let
//! pass although they are malformed: `:path` with a fragment, which the `http` crate cuts off (RFC 9113,
//! 8.3.1), and trailers with a pseudo-header field (RFC 9113, 8.1). Everything else is left to h2.

use super::frame::{
    CONTINUATION, END_HEADERS, HEADERS, PADDED, PRIORITY, PUSH_PROMISE, STREAM_MASK,
};
use super::hpack::{HpackObserver, Undecodable};

/// A stream whose request is malformed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::listener) struct Finding {
    pub(in crate::listener) stream: u32,
    pub(in crate::listener) defect: Defect,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::listener) enum Defect {
    /// `:path` holds a `#`.
    Fragment,
    /// The trailers hold a pseudo-header field.
    PseudoHeaderInTrailers,
}

/// Reads the header blocks of one connection.
#[derive(Debug, Default)]
pub(in crate::listener) struct HeaderBlocks {
    hpack: HpackObserver,
    /// The stream of the block that has begun and is not complete.
    open_block: Option<u32>,
    /// The highest stream that a request began.
    last_stream: u32,
    frame: BlockFrame,
    findings: Vec<Finding>,
    is_undecodable: bool,
}

/// The frame that carries a part of a block.
#[derive(Debug, Default)]
struct BlockFrame {
    /// Bytes of the payload that have not been read.
    remaining: usize,
    ends_block: bool,
    /// The length of the padding comes next.
    is_padded: bool,
    /// Bytes of the padding, once they are known.
    padding: usize,
    /// Bytes of the priority fields that come before the block.
    priority: usize,
    /// The stream dependency, as far as it was read.
    dependency: u32,
}

impl HeaderBlocks {
    /// Begins a frame of `kind`. Returns whether its payload is to be passed to
    /// [`HeaderBlocks::advance`].
    pub(super) fn begin_frame(&mut self, kind: u8, flags: u8, stream: u32, length: usize) -> bool {
        match kind {
            HEADERS | CONTINUATION if !self.is_undecodable => {}
            // A client may not push (RFC 9113, 8.4), and nothing interrupts a block (4.3).
            PUSH_PROMISE => {
                self.is_undecodable = true;
                return false;
            }
            _ => {
                self.is_undecodable |= self.open_block.is_some();
                return false;
            }
        }
        let is_first = kind == HEADERS;
        if self.open_block != (!is_first).then_some(stream) {
            self.is_undecodable = true;
            return false;
        }
        self.open_block = Some(stream);
        self.frame = BlockFrame {
            remaining: length,
            ends_block: flags & END_HEADERS != 0,
            is_padded: is_first && flags & PADDED != 0,
            padding: 0,
            priority: if is_first && flags & PRIORITY != 0 {
                PRIORITY_LENGTH
            } else {
                0
            },
            dependency: 0,
        };
        if length == 0 {
            let ended = self.end_frame();
            self.record(ended);
        }
        length > 0
    }

    /// Reads the next bytes of the frame's payload, at most as many as it has.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        if !self.is_undecodable {
            let read = self.read(bytes);
            self.record(read);
        }
    }

    /// Whether the blocks can no longer be followed. h2 ends such a connection with an error, except after
    /// some errors of single streams, which no client makes by accident.
    pub(in crate::listener) fn is_undecodable(&self) -> bool {
        self.is_undecodable
    }

    /// Takes the findings since the last call.
    pub(in crate::listener) fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    fn record(&mut self, read: Result<(), Undecodable>) {
        if read.is_err() {
            self.is_undecodable = true;
            self.open_block = None;
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Undecodable> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let frame = &mut self.frame;
            if frame.is_padded {
                frame.is_padded = false;
                frame.padding = byte.into();
            } else if frame.priority > 0 {
                frame.priority -= 1;
                // The fifth byte is the weight.
                if frame.priority > 0 {
                    frame.dependency = frame.dependency << 8 | u32::from(byte);
                } else if Some(frame.dependency & STREAM_MASK) == self.open_block {
                    // h2 resets the stream without decoding its block (RFC 7540, 5.3.1).
                    return Err(Undecodable);
                }
            } else {
                break;
            }
            frame.remaining = frame.remaining.saturating_sub(1);
            bytes = rest;
        }
        self.read_block(bytes)?;
        if self.frame.remaining == 0 {
            self.end_frame()
        } else {
            Ok(())
        }
    }

    /// Reads what follows the padding's length and the priority fields.
    fn read_block(&mut self, bytes: &[u8]) -> Result<(), Undecodable> {
        let frame = &mut self.frame;
        if bytes.is_empty() {
            return Ok(());
        }
        let in_block = frame
            .remaining
            .checked_sub(frame.padding)
            .ok_or(Undecodable)?;
        let (block, _padding) = bytes.split_at(in_block.min(bytes.len()));
        let padding = bytes.len() - block.len();
        frame.remaining = frame.remaining.saturating_sub(bytes.len());
        frame.padding -= padding.min(frame.padding);
        self.hpack.advance(block)
    }

    fn end_frame(&mut self) -> Result<(), Undecodable> {
        let frame = &self.frame;
        // The payload ended within its first fields.
        if frame.is_padded || frame.priority > 0 || frame.padding > 0 {
            return Err(Undecodable);
        }
        if !frame.ends_block {
            return Ok(());
        }
        let section = self.hpack.end_block()?;
        let Some(stream) = self.open_block.take() else {
            return Ok(());
        };
        let is_request = stream > self.last_stream;
        self.last_stream = self.last_stream.max(stream);
        let defect = if is_request && section.has_fragment {
            Defect::Fragment
        } else if !is_request && section.has_pseudo_header {
            Defect::PseudoHeaderInTrailers
        } else {
            return Ok(());
        };
        self.findings.push(Finding { stream, defect });
        Ok(())
    }
}

/// RFC 9113, 6.2.
const PRIORITY_LENGTH: usize = 5;
