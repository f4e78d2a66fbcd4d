use super::*;
use proptest::prelude::*;

#[test]
fn version_1_is_parsed_as_specified() {
    let client = |text: &str| Some(Some(text.parse().unwrap()));
    for (line, expected) in [
        (
            "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
            client("192.0.2.7:4711"),
        ),
        (
            "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n",
            client("[2001:db8::7]:4711"),
        ),
        ("PROXY UNKNOWN\r\n", Some(None)),
        ("PROXY UNKNOWN ffff:f::1 ffff:f::2 1 2\r\n", Some(None)),
        ("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n", None),
        ("PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n", None),
        ("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443 5\r\n", None),
        ("PROXY TCP4  192.0.2.7 192.0.2.1 4711 443\r\n", None),
        ("PROXY TCP4 2001:db8::7 192.0.2.1 4711 443\r\n", None),
        ("PROXY TCP4 192.0.2.007 192.0.2.1 4711 443\r\n", None),
        ("PROXY TCP4 192.0.2.7 192.0.2.1 04711 443\r\n", None),
        ("PROXY TCP4 192.0.2.7 192.0.2.1 4711 +443\r\n", None),
        ("PROXY TCP4 192.0.2.7 192.0.2.1 70000 443\r\n", None),
        ("PROXY UDP4 192.0.2.7 192.0.2.1 4711 443\r\n", None),
        ("PROXY UNKNOWNX\r\n", None),
    ] {
        assert_eq!(parse_v1(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn version_2_is_parsed_as_specified() {
    let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 187];
    let client = Some(Some("192.0.2.7:4711".parse().unwrap()));
    assert_eq!(parse_v2(0x21, 0x11, &v4), client);
    assert_eq!(
        parse_v2(0x21, 0x11, &[&v4[..], &[3, 0, 0]].concat()),
        client,
        "TLVs follow"
    );
    assert_eq!(parse_v2(0x21, 0x11, &v4[..11]), None);
    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[33] = 9;
    assert_eq!(
        parse_v2(0x21, 0x21, &v6),
        Some(Some("[::1]:9".parse().unwrap()))
    );
    assert_eq!(parse_v2(0x20, 0x11, &v4), Some(None), "LOCAL");
    assert_eq!(parse_v2(0x21, 0x00, &[]), Some(None), "UNSPEC");
    for family in [0x12, 0x22, 0x31, 0x32] {
        assert_eq!(parse_v2(0x21, family, &[0; 216]), Some(None), "{family:x}");
    }
    for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x21, 0x13), (0x21, 0x41)] {
        assert_eq!(
            parse_v2(command, family, &v4),
            None,
            "{command:x} {family:x}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(command: u8, family: u8, bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = parse_v1(&bytes);
        let _ = parse_v2(command, family, &bytes);
    }
}
