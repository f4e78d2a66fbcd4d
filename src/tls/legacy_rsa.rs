//! Verification of RSA signatures by keys below 2,048 bits, which aws-lc-rs offers only in part: such
//! keys are accepted where a pin names them. Everything here is public, so that nothing has to take
//! constant time.

use aws_lc_rs::digest;
use x509_parser::asn1_rs::{FromDer, Integer, Sequence};
use x509_parser::num_bigint::BigUint;

use super::public_key::Hash;

/// An RSAPublicKey (RFC 8017, A.1.1).
#[derive(Debug)]
pub(super) struct RsaKey {
    modulus: BigUint,
    exponent: BigUint,
}

/// How the hash of a message is encoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Padding {
    /// RSASSA-PKCS1-v1_5 (RFC 8017, 8.2).
    Pkcs1,
    /// RSASSA-PSS (RFC 8017, 8.1) with a salt as long as the hash, as TLS prescribes it.
    Pss,
}

impl RsaKey {
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (_, sequence) = Sequence::from_der(der).ok()?;
        let (rest, modulus) = Integer::from_der(&sequence.content).ok()?;
        let (_, exponent) = Integer::from_der(rest).ok()?;
        Some(Self {
            modulus: unsigned(&modulus)?,
            exponent: unsigned(&exponent)?,
        })
    }

    /// Returns the size of the modulus in bits.
    pub(super) fn bits(&self) -> usize {
        usize::try_from(self.modulus.bits()).unwrap_or(usize::MAX)
    }
}

/// Returns the value of an integer; `None` if it is negative.
fn unsigned(integer: &Integer<'_>) -> Option<BigUint> {
    let bytes = integer.as_ref();
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    (!is_negative).then(|| BigUint::from_bytes_be(bytes))
}

/// Whether `signature` over `message` is of `key`, which has at most [`MAX_BITS`].
pub(super) fn verify(
    key: &RsaKey,
    padding: Padding,
    hash: Hash,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let length = key.bits().div_ceil(8);
    let is_sane = (MIN_BITS..=MAX_BITS).contains(&key.bits())
        && key.exponent.bits() <= MAX_EXPONENT_BITS
        && key.exponent.bit(0)
        && key.exponent.bits() > 1;
    if !is_sane || signature.len() != length {
        return false;
    }
    let signature = BigUint::from_bytes_be(signature);
    if signature >= key.modulus {
        return false;
    }
    let encoded = signature.modpow(&key.exponent, &key.modulus).to_bytes_be();
    match padding {
        Padding::Pkcs1 => {
            pkcs1_encoding(hash, message, length).is_some_and(|expected| {
                // `encoded` has no leading zero; the expected form begins with exactly one.
                expected.get(1..) == Some(encoded.as_slice())
            })
        }
        Padding::Pss => is_pss_encoding(hash, message, &encoded, key.bits() - 1),
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017, 9.2).
fn pkcs1_encoding(hash: Hash, message: &[u8], length: usize) -> Option<Vec<u8>> {
    let (algorithm, identifier) = match hash {
        Hash::Sha256 => (&digest::SHA256, 1),
        Hash::Sha384 => (&digest::SHA384, 2),
        Hash::Sha512 => (&digest::SHA512, 3),
    };
    let digest = digest::digest(algorithm, message);
    let size = u8::try_from(digest.as_ref().len()).ok()?;
    // DigestInfo with the object identifiers of NIST's hashes (RFC 8017, 9.2, note 1).
    let mut info = vec![0x30, 17 + size, 0x30, 0x0d, 0x06, 0x09];
    info.extend_from_slice(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, identifier]);
    info.extend_from_slice(&[0x05, 0x00, 0x04, size]);
    info.extend_from_slice(digest.as_ref());
    let filling = length.checked_sub(info.len() + 3).filter(|&it| it >= 8)?;
    let mut encoded = vec![0x00, 0x01];
    encoded.resize(2 + filling, 0xff);
    encoded.push(0x00);
    encoded.extend_from_slice(&info);
    Some(encoded)
}

/// EMSA-PSS-VERIFY (RFC 8017, 9.1.2). `encoded` may lack leading zeros.
fn is_pss_encoding(hash: Hash, message: &[u8], encoded: &[u8], bits: usize) -> bool {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    let size = algorithm.output_len();
    let length = bits.div_ceil(8);
    if encoded.len() > length || length < 2 * size + 2 {
        return false;
    }
    let mut whole = vec![0; length - encoded.len()];
    whole.extend_from_slice(encoded);
    let Some((&TRAILER, rest)) = whole.split_last() else {
        return false;
    };
    let (masked, seed) = rest.split_at(length - size - 1);
    let unused_bits = 8 * length - bits;
    let keep = 0xff_u8.checked_shr(u32::try_from(unused_bits).unwrap_or(8));
    let (Some(keep), Some(&first)) = (keep, masked.first()) else {
        return false;
    };
    if first & !keep != 0 {
        return false;
    }
    let mut block = mask(algorithm, seed, masked.len());
    block
        .iter_mut()
        .zip(masked)
        .for_each(|(mask, byte)| *mask ^= byte);
    if let Some(first) = block.first_mut() {
        *first &= keep;
    }
    let (filling, salt) = block.split_at(masked.len() - size);
    let Some((&0x01, zeros)) = filling.split_last() else {
        return false;
    };
    let mut hashed = digest::Context::new(algorithm);
    hashed.update(&[0; 8]);
    hashed.update(digest::digest(algorithm, message).as_ref());
    hashed.update(salt);
    zeros.iter().all(|&byte| byte == 0) && hashed.finish().as_ref() == seed
}

/// MGF1 (RFC 8017, B.2.1).
fn mask(algorithm: &'static digest::Algorithm, seed: &[u8], length: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(length + algorithm.output_len());
    let mut counter = 0_u32;
    while mask.len() < length {
        let mut block = digest::Context::new(algorithm);
        block.update(seed);
        block.update(&counter.to_be_bytes());
        mask.extend_from_slice(block.finish().as_ref());
        counter += 1;
    }
    mask.truncate(length);
    mask
}

/// RFC 8017, 9.1.1, step 12.
const TRAILER: u8 = 0xbc;

/// Shorter keys are factored on one computer.
const MIN_BITS: usize = 1_024;

/// Longer keys are verified by aws-lc-rs; bounds the time of a verification.
const MAX_BITS: usize = 2_048;

/// The bound of aws-lc-rs; bounds the time of a verification.
const MAX_EXPONENT_BITS: u64 = 33;

#[cfg(test)]
mod tests;
