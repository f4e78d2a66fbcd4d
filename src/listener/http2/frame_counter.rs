//! Follows the HTTP/2 frames below h2, which reports neither that a header block has begun nor how many
//! frames have arrived: needed for the timeout of an unfinished header block (CVE-2024-27316), and to
//! detect floods. Passes the payload of header blocks to [`HeaderBlocks`]. Pure; nothing is changed.

use super::frame::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, STREAM_MASK};
use super::header_blocks::HeaderBlocks;

/// Follows the frames that a client sends.
#[derive(Debug)]
pub(in crate::listener) struct FrameCounter {
    /// Bytes to skip: the preface, then payloads.
    skip: usize,
    header: [u8; FRAME_HEADER_LENGTH],
    /// Bytes of `header` received.
    filled: usize,
    /// The frame whose payload is being skipped completes its header block.
    completes_block: bool,
    block_open: bool,
    /// The payload being skipped belongs to a header block.
    is_block_payload: bool,
    blocks: HeaderBlocks,
    counts: FrameCounts,
}

/// Frames that have begun.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FrameCounts {
    pub(super) all: u64,
    /// Frames that are neither part of a header block, nor a useful amount of data, nor the end of a
    /// stream.
    pub(super) control: u64,
}

impl FrameCounter {
    /// Creates a counter for a new connection, before the client's preface.
    pub(in crate::listener) fn new() -> Self {
        Self {
            skip: PREFACE_LENGTH,
            header: [0; FRAME_HEADER_LENGTH],
            filled: 0,
            completes_block: false,
            block_open: false,
            is_block_payload: false,
            blocks: HeaderBlocks::default(),
            counts: FrameCounts::default(),
        }
    }

    /// Returns the counts since the last call.
    pub(super) fn take_counts(&mut self) -> FrameCounts {
        std::mem::take(&mut self.counts)
    }

    /// Whether a header block has begun and is not complete.
    pub(in crate::listener) fn is_block_open(&self) -> bool {
        self.block_open
    }

    /// Returns the header blocks that the frames carry.
    pub(in crate::listener) fn blocks(&mut self) -> &mut HeaderBlocks {
        &mut self.blocks
    }

    /// Follows the frames through `bytes`.
    pub(in crate::listener) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (passed, rest) = bytes.split_at(self.skip.min(bytes.len()));
            if self.is_block_payload && !passed.is_empty() {
                self.blocks.advance(passed);
            }
            self.skip -= passed.len();
            bytes = rest;
            if self.skip > 0 {
                return;
            }
            if std::mem::take(&mut self.completes_block) {
                self.block_open = false;
            }
            if bytes.is_empty() {
                return;
            }
            for (&byte, slot) in bytes.iter().zip(self.header.iter_mut().skip(self.filled)) {
                *slot = byte;
            }
            let taken = bytes.len().min(FRAME_HEADER_LENGTH - self.filled);
            self.filled += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.filled == FRAME_HEADER_LENGTH {
                self.begin_frame();
            }
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        let stream = u32::from_be_bytes(stream) & STREAM_MASK;
        self.filled = 0;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.counts.all += 1;
        self.is_block_payload = self.blocks.begin_frame(kind, flags, stream, self.skip);
        match kind {
            HEADERS | CONTINUATION => {
                let whole = flags & END_HEADERS != 0;
                self.completes_block = whole && self.skip > 0;
                self.block_open = !whole || self.completes_block;
            }
            // A padded frame may consist of padding alone.
            DATA if flags & END_STREAM != 0
                || self.skip >= MIN_USEFUL_DATA && flags & PADDED == 0 => {}
            _ => self.counts.control += 1,
        }
    }
}

/// RFC 9113, 3.4.
const PREFACE_LENGTH: usize = 24;

/// RFC 9113, 4.1.
const FRAME_HEADER_LENGTH: usize = 9;

/// Bytes of a body below which a DATA frame counts as a control frame; our choice, more than the frame
/// header costs.
const MIN_USEFUL_DATA: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(0, usize::from(length)));
        frame
    }

    #[test]
    fn a_header_block_is_open_until_its_last_byte() {
        for (frames, open) in [
            (vec![frame(4, 0, 6)], false),
            (vec![frame(HEADERS, END_HEADERS, 5)], false),
            (vec![frame(HEADERS, 0, 5)], true),
            (vec![frame(HEADERS, 0, 5), frame(CONTINUATION, 0, 0)], true),
            (
                vec![frame(HEADERS, 0, 5), frame(CONTINUATION, END_HEADERS, 3)],
                false,
            ),
            (
                vec![frame(HEADERS, 0, 5), frame(CONTINUATION, END_HEADERS, 0)],
                false,
            ),
        ] {
            let mut bytes = vec![0; PREFACE_LENGTH];
            bytes.extend(frames.concat());
            let mut at_once = FrameCounter::new();
            at_once.advance(&bytes);
            let mut bytewise = FrameCounter::new();
            bytes.iter().for_each(|&byte| bytewise.advance(&[byte]));
            assert_eq!(at_once.is_block_open(), open, "{frames:?}");
            assert_eq!(bytewise.is_block_open(), open, "{frames:?}");
        }
    }

    #[test]
    fn control_frames_are_counted() {
        for (frame, control) in [
            (frame(HEADERS, END_HEADERS, 5), 0),
            (frame(CONTINUATION, END_HEADERS, 0), 0),
            (frame(DATA, 0, 16), 0),
            (frame(DATA, 0, 15), 1),
            (frame(DATA, PADDED, 100), 1),
            (frame(DATA, END_STREAM, 0), 0),
            (frame(2, 0, 5), 1),
            (frame(6, 0, 8), 1),
            (frame(8, 0, 4), 1),
            (frame(77, 0, 100), 1),
        ] {
            let mut frames = FrameCounter::new();
            frames.advance(&[0; PREFACE_LENGTH]);
            frames.advance(&frame.repeat(3));
            let expected = FrameCounts {
                all: 3,
                control: control * 3,
            };
            assert_eq!(frames.take_counts(), expected, "{frame:?}");
            assert_eq!(frames.take_counts(), FrameCounts::default());
        }
    }

    #[test]
    fn a_header_block_with_outstanding_bytes_is_open() {
        let mut frames = FrameCounter::new();
        frames.advance(&[0; PREFACE_LENGTH]);
        let block = frame(HEADERS, END_HEADERS, 8);
        frames.advance(&block[..block.len() - 1]);
        assert!(frames.is_block_open());
        frames.advance(&block[block.len() - 1..]);
        assert!(!frames.is_block_open());
    }
}
