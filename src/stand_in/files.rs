//! The content of the files a stand-in serves: any length, made on the fly, the same every time, so
//! that a gigabyte costs no memory and a reader can check every byte of it.

use std::sync::LazyLock;

use bytes::Bytes;

/// The piece of the file that begins at `offset`, at most `longest` bytes of it. Does not copy.
pub(super) fn chunk(offset: u64, longest: usize) -> Bytes {
    let (from, longest) = (pattern_offset(offset), longest.min(PATTERN_LENGTH));
    PATTERN.slice(from..PATTERN_LENGTH.min(from + longest))
}

/// Do these bytes stand at `offset` of every file that a stand-in serves?
pub fn matches(offset: u64, bytes: &[u8]) -> bool {
    let (mut offset, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let expected = chunk(offset, rest.len());
        let (now, later) = rest.split_at(expected.len());
        if now != expected {
            return false;
        }
        offset += expected.len() as u64;
        rest = later;
    }
    true
}

/// A prime, so that a lost or doubled buffer of any usual size shifts the pattern.
const PATTERN_LENGTH: usize = 65_521;

/// `RIFF` and then bytes without any short repetition (a linear congruential generator).
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 1_u32;
    let mut pattern = b"RIFF".to_vec();
    pattern.resize_with(PATTERN_LENGTH, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    pattern.into()
});

fn pattern_offset(offset: u64) -> usize {
    usize::try_from(offset % PATTERN_LENGTH as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_make_the_same_file() {
        let mut whole = Vec::new();
        while whole.len() < 200_000 {
            whole.extend_from_slice(&chunk(whole.len() as u64, 7_777));
        }
        assert!(whole.starts_with(b"RIFF"));
        assert!(matches(0, &whole));
        assert!(matches(100_000, &whole[100_000..150_000]));
        assert!(!matches(1, &whole));
        assert!(
            !matches(65_536, &whole[..16_384]),
            "a doubled buffer is seen"
        );
    }
}
