//! Lower-case hexadecimal digits, for what every request writes: without an allocation, and compiled with this
//! crate, since profile `release` does not optimize `data-encoding`, which serves where fewer requests pass.

/// Writes two digits for each of `bytes` over the beginning of `digits`; stops at the end of the shorter one.
pub(crate) fn write(bytes: &[u8], digits: &mut [u8]) {
    for (two, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::write;

    #[test]
    fn each_byte_is_two_lower_case_digits() {
        let bytes: [u8; 256] = std::array::from_fn(|byte| byte as u8);
        let mut digits = [0; 512];
        write(&bytes, &mut digits);
        assert_eq!(
            digits.as_slice(),
            data_encoding::HEXLOWER.encode(&bytes).as_bytes()
        );
    }

    #[test]
    fn what_has_no_digits_stays() {
        let mut digits = *b"xxxxx";
        write(&[0xab], &mut digits);
        assert_eq!(digits, *b"abxxx");
    }
}
