use super::*;

/// Signatures of openssl over [`MESSAGE`].
const MESSAGE: &[u8] = b"a handshake";

const KEY: &str = "30818902818100e43b7d297a82af646569019e679779a75ba51ca679b1518c36ca0181d39bc2cb6c0fe4d4e1\
    e9a1676c25da244e90a3a5feabf3b281c36da438638fbee0988c0877da1bed848ff19a8d5bc602a6a295eace\
    7704b09397ac4419f266e1ab2c3789872ee1edac97f2697787335a541afe2f4cd0e63d1c97120b5b8e2d4d4f\
    8914d30203010001";

/// A key of 1,025 bits, whose encoded hash is a byte shorter than the modulus.
const ODD_KEY: &str = "308189028181019dbbc771ed92987e26d22742163f4010981490ca43f7deaf70744f9db73cc9f6e3975c4cf9\
    9b7a04c29bbea2ab26a0587747c413dbbd64512a5c79b121372d20aebfd3fe30f5634492168e9d9f80b1e95b\
    1cccb76f32e304d63d8af99d1f3e480d9eabe994aee101c1053fa6424b1cda7a187d2a01f87afea0f0d095d2\
    3f4a490203010001";

const SIGNATURES: [(Padding, Hash, &str); 5] = [
    (
        Padding::Pkcs1,
        Hash::Sha256,
        "d555214d5819dea453c76aa3ae397916136d5b2db299e8f4659377a95e696252457040b5b88b8388df016919\
        616e8e0ab7dec743f44c217838954ee4f30049d3b45cb076b92c6da14089f5f5c4ee86dc50321ed0e25da947\
        e0ca9aba4a4460e6856086f361f27b87380dcb9e2dc42b2356272834a1e6399700ebde766d7af2bc",
    ),
    (
        Padding::Pkcs1,
        Hash::Sha384,
        "db6f15c878c6ff61d41806a25dc2715e936a1e8599de7cca873554bb261c87c43dadfbf24ff8c421d8c16631\
        75e4e4122520b3a574e77d1828ba5aa22ccbf07296946a79ebb4af0ee7524409ab0f5d13ae416c3bd91db9ba\
        f6c49685f1568afa2ad5d7034e761436d4f270b177c5df739224e8f2b35186b81eeab9baa6ce6835",
    ),
    (
        Padding::Pkcs1,
        Hash::Sha512,
        "1eda1967c82e59976fde56d20cfa2e68a2312e5f3a03eff63f2341e4447400582ccaa84808052612fb8adb49\
        55b1328671e423e6120852bb15d6e6b66fd1b6fc0e570ea46a6a73402c65a4e10a35838af5791998b74799cc\
        5aab883118359e30727e530b76f40451d233b59e16ce96a0a5385c7adb4888d7b8e8e6d6ea19233f",
    ),
    (
        Padding::Pss,
        Hash::Sha256,
        "54e4d738df55d6772616bec329827bd7ba9cc2d5faf7822267a53b7ec29db157e3a4ec3a65fd58e970154899\
        9e045bf1976091f09b5d6507fbec940fe1868b23bf13158588be55be23027e55e3578cc9f960fb9ce387f903\
        b5ed5e71df09aeea67813bec253509cce04886412b633a05eda164d49149c9a8b40941899dbcc932",
    ),
    (
        Padding::Pss,
        Hash::Sha384,
        "cc0a9f8a4f4fa6467c9dd474f98a5fdb0084bd56e2a8433492e313aa42a07b104a57e9b33f15097139c4082f\
        581e04fa0603f9c7f6a6a28016d3b673e23e31228abfd8a73a1945aa00a9c2330f228e4f47f5809ce537eaaf\
        f320bec8418e245774997f7ebefd1b3ab03db01c5813464483c581468154ff71131425341f5bf305",
    ),
];

const ODD_SIGNATURE: &str = "012c1314ab14a7e52269620a367e6eaaa96fa7236b4df1e8a94fc744a2b705c69f841ed8f8b4222aba762a5e\
    411a3f20a4437ce8a09f6f01385a2b1acd43651de7fb5ca931bd29d516a4fc3f0add30e8260eac5d97166515\
    68d8691c258580601ae6dcbe64004b1db9c525e3fe046afc45dd350a1953d8c808b45829ce069afac5";

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

#[test]
fn a_signature_of_a_short_key_verifies_for_its_message_alone() {
    let key = RsaKey::parse(&bytes(KEY)).unwrap();
    let other = RsaKey::parse(&bytes(ODD_KEY)).unwrap();
    assert_eq!((key.bits(), other.bits()), (1_024, 1_025));
    for (padding, hash, signature) in SIGNATURES {
        let signature = bytes(signature);
        let verified =
            |key, padding, hash, message: &[u8]| verify(key, padding, hash, message, &signature);
        assert!(
            verified(&key, padding, hash, MESSAGE),
            "{padding:?} {hash:?}"
        );
        assert!(!verified(&key, padding, hash, b"another"));
        assert!(!verified(&other, padding, hash, MESSAGE));
        for (wrong_padding, wrong_hash, _) in SIGNATURES {
            let is_same = (wrong_padding, wrong_hash) == (padding, hash);
            assert_eq!(verified(&key, wrong_padding, wrong_hash, MESSAGE), is_same);
        }
        for bit in 0..8 * signature.len() {
            let mut forged = signature.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&key, padding, hash, MESSAGE, &forged), "bit {bit}");
        }
        assert!(!verify(&key, padding, hash, MESSAGE, &signature[1..]));
    }
    let odd = bytes(ODD_SIGNATURE);
    assert!(verify(&other, Padding::Pss, Hash::Sha256, MESSAGE, &odd));
}
