use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::listener::tests::hpack_encoder::{Encoder, Representation, Strings};

const PLAIN: Strings = Strings {
    is_huffman: false,
    spells_name: false,
};

fn observe(observer: &mut HpackObserver, block: &[u8]) -> Result<FieldSection, Undecodable> {
    observer.advance(block)?;
    observer.end_block()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// RFC 7541, appendices C.3 to C.6: the sizes of the table after each block.
#[test]
fn the_table_has_the_sizes_of_the_examples() {
    let requests = [
        (
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            [57, 110, 164],
        ),
        (
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
            [57, 110, 164],
        ),
    ];
    for (blocks, sizes) in requests {
        let mut observer = HpackObserver::default();
        for (block, size) in blocks.iter().zip(sizes) {
            let section = observe(&mut observer, &hex(block)).unwrap();
            assert_eq!(
                (section.has_pseudo_header, section.has_fragment),
                (true, false)
            );
            assert_eq!(observer.table.size(), size);
        }
    }
    // With a table of 256 bytes, from which entries are evicted.
    let responses = [
        "3fe101 4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ];
    let mut observer = HpackObserver::default();
    for (block, size) in responses.iter().zip([222, 222, 215]) {
        observe(&mut observer, &hex(block)).unwrap();
        assert_eq!(observer.table.size(), size);
    }
}

#[test]
fn a_fragment_is_found_in_every_representation_of_a_path() {
    use Representation::{Incremental, Indexed, Never, Without};
    for is_huffman in [false, true] {
        for spells_name in [false, true] {
            let strings = Strings {
                is_huffman,
                spells_name,
            };
            for representation in [Incremental, Without, Never] {
                let (mut encoder, mut observer) = (Encoder::new(), HpackObserver::default());
                let mut found = |path: &[u8], representation| {
                    let block = encoder.field(b":path", path, representation, strings);
                    observe(&mut observer, &block).unwrap().has_fragment
                };
                assert!(found(b"/a#b", representation));
                assert!(!found(b"/a?b>c$d~", representation));
                assert!(found(b"#", representation));
                // By its index, if it has entered the table.
                assert!(found(b"/a#b", Indexed));
                assert!(!found(b"/", Indexed));
            }
        }
    }
    // Elsewhere a `#` means nothing; the name of an entry may stand for another value.
    let (mut encoder, mut observer) = (Encoder::new(), HpackObserver::default());
    for (name, value, expected) in [
        (&b"referer"[..], &b"/a#b"[..], false),
        (b"path", b"#", false),
        (b":paths", b"#", false),
        (b":pat", b"#", false),
        (b":path", b"/new", false),
        (b":path", b"/new#", true),
    ] {
        let block = encoder.field(name, value, Incremental, PLAIN);
        let section = observe(&mut observer, &block).unwrap();
        assert_eq!(section.has_fragment, expected, "{name:?}");
        assert_eq!(section.has_pseudo_header, name[0] == b':', "{name:?}");
    }
}

/// Every byte, alone and before another one, whose code would be misread if the length were wrong.
#[test]
fn every_symbol_is_counted() {
    for byte in 0..=u8::MAX {
        let (mut encoder, mut observer) = (Encoder::new(), HpackObserver::default());
        for text in [&[byte][..], &[byte, b'a'], &[b'z', byte, byte, b'#', byte]] {
            let strings = Strings {
                is_huffman: true,
                spells_name: true,
            };
            let block = encoder.field(b":path", text, Representation::Incremental, strings);
            let section = observe(&mut observer, &block).unwrap();
            assert_eq!(section.has_fragment, text.contains(&b'#'), "{text:?}");
            assert_eq!(observer.table.size(), encoder.size(), "{text:?}");
        }
    }
}

#[test]
fn what_is_no_header_block_is_undecodable() {
    for block in [
        "80",             // index 0
        "be",             // an entry that does not exist
        "7f8080808001",   // an index of six bytes
        "3fe21f",         // a table of 4,097 bytes
        "40 00 0161",     // an empty name
        "40 0161",        // no value
        "04 05 2f61",     // a value that is cut off
        "44 84 ffffffff", // EOS
        "44 81 fe",       // a symbol that is cut off
        "44 81 18",       // padding that is not the beginning of EOS
        "44 82 1fff",     // more than seven bits of padding
    ] {
        let mut observer = HpackObserver::default();
        assert_eq!(
            observe(&mut observer, &hex(block)),
            Err(Undecodable),
            "{block}"
        );
    }
}

/// One step of an encoder.
#[derive(Clone, Debug)]
enum Move {
    Field(usize, usize, Representation, Strings),
    Resize(usize),
    EndBlock,
}

const NAMES: [&[u8]; 6] = [
    b":path",
    b":method",
    b"referer",
    b"x-long-name-of-a-field",
    b"te",
    b":scheme",
];
const VALUES: [&[u8]; 8] = [
    b"/",
    b"/a#b",
    b"GET",
    b"",
    b"/CCFS/resource/ccfs/getRecordFileUrlFromObs",
    b"a~b|c\\d{\x80\xff",
    b"https",
    &[b'v'; 700],
];

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let representation = prop_oneof![
        Just(Representation::Indexed),
        Just(Representation::Incremental),
        Just(Representation::Without),
        Just(Representation::Never),
    ];
    let strings = any::<(bool, bool)>().prop_map(|(is_huffman, spells_name)| Strings {
        is_huffman,
        spells_name,
    });
    let field = (0..NAMES.len(), 0..VALUES.len(), representation, strings).prop_map(
        |(name, value, representation, strings)| Move::Field(name, value, representation, strings),
    );
    vec(
        prop_oneof![12 => field, 1 => (0..=4096_usize).prop_map(Move::Resize), 4 => Just(Move::EndBlock)],
        1..120,
    )
}

proptest! {
    /// The observer agrees with the encoder, wherever the blocks are cut.
    #[test]
    fn the_observer_follows_any_encoder(moves in moves(), piece in 1..40_usize) {
        let (mut encoder, mut observer) = (Encoder::new(), HpackObserver::default());
        let mut expected = FieldSection::default();
        for step in moves {
            let bytes = match step {
                Move::Field(name, value, representation, strings) => {
                    let (name, value) = (NAMES[name], VALUES[value]);
                    expected.has_pseudo_header |= name[0] == b':';
                    expected.has_fragment |= name == b":path" && value.contains(&b'#');
                    encoder.field(name, value, representation, strings)
                }
                Move::Resize(size) => encoder.resize(size),
                Move::EndBlock => {
                    prop_assert_eq!(observer.end_block(), Ok(std::mem::take(&mut expected)));
                    continue;
                }
            };
            for piece in bytes.chunks(piece) {
                prop_assert_eq!(observer.advance(piece), Ok(()));
            }
            prop_assert_eq!(observer.table.size(), encoder.size());
        }
    }
}
