//! The content of the files that a stand-in serves: a repeating pattern of any length, so that a
//! gigabyte needs no memory and a reader can check every byte.

use std::sync::LazyLock;

use bytes::Bytes;

/// Returns at most `longest` bytes of the file from `offset`, without copying.
pub(super) fn chunk(offset: u64, longest: usize) -> Bytes {
    let (from, longest) = (pattern_offset(offset), longest.min(PATTERN_LENGTH));
    PATTERN.slice(from..PATTERN_LENGTH.min(from + longest))
}

/// Whether these bytes are the content at `offset` of every served file.
pub fn matches(offset: u64, bytes: &[u8]) -> bool {
    let (mut offset, mut remaining) = (offset, bytes);
    while !remaining.is_empty() {
        let expected = chunk(offset, remaining.len());
        let (head, tail) = remaining.split_at(expected.len());
        if head != expected {
            return false;
        }
        offset += expected.len() as u64;
        remaining = tail;
    }
    true
}

/// A prime, so that a lost or repeated buffer of any usual size shifts the pattern.
const PATTERN_LENGTH: usize = 65_521;

/// `RIFF`, then bytes without a short period (linear congruential generator, constants of Numerical
/// Recipes).
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
    fn chunks_of_any_length_make_the_same_file() {
        let mut content = Vec::new();
        while content.len() < 200_000 {
            content.extend_from_slice(&chunk(content.len() as u64, 7_777));
        }
        assert!(content.starts_with(b"RIFF"));
        assert!(matches(0, &content));
        assert!(matches(100_000, &content[100_000..150_000]));
        assert!(!matches(1, &content));
        assert!(
            !matches(65_536, &content[..16_384]),
            "a doubled buffer is seen"
        );
    }
}
