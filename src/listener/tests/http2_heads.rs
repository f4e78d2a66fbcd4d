//! Header blocks in raw frames: what h2 hides is rejected all the same.

use super::hpack_encoder::{Encoder, Representation, Strings};
use super::support::*;
use crate::metrics::MalformedReason;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The preface and an empty SETTINGS.
const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [0, length[0], length[1], kind, flags, 0, 0, 0, stream];
    [&header[..], payload].concat()
}

const PLAIN: Strings = Strings {
    is_huffman: false,
    spells_name: false,
};

const HUFFMAN: Strings = Strings {
    is_huffman: true,
    spells_name: false,
};

/// The header block of a request.
fn block(
    encoder: &mut Encoder,
    (method, path): (&str, &str),
    representation: Representation,
    strings: Strings,
) -> Vec<u8> {
    [
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", "x"),
    ]
    .iter()
    .flat_map(|(name, value)| {
        encoder.field(name.as_bytes(), value.as_bytes(), representation, strings)
    })
    .collect()
}

#[tokio::test]
async fn a_fragment_is_rejected_as_over_http1() {
    let server = TestListener::new(Options::tls()).await;
    for (nth, strings) in [PLAIN, HUFFMAN].into_iter().enumerate() {
        let mut client = server.connect_tls("h2").await;
        let request = ("GET", "/a#b");
        let block = block(
            &mut Encoder::new(),
            request,
            Representation::Without,
            strings,
        );
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
        client.send([START, &request].concat()).await;
        let text = client.frame_of(DATA).await;
        assert_eq!(
            text,
            b"the target holds a character that a URI may not hold"
        );
        client.frame_of(GOAWAY).await;
        assert_eq!(server.count(MalformedReason::Target), nth as u64 + 1);
    }
    let mut client = server.connect_tls("http/1.1").await;
    client.send("GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.status, 400);
    assert_eq!(
        response.body,
        "the target holds a character that a URI may not hold"
    );
}

/// A block in several frames, with padding and priority.
#[tokio::test]
async fn a_fragment_is_found_wherever_the_block_is_cut() {
    let server = TestListener::new(Options::tls()).await;
    let block = block(
        &mut Encoder::new(),
        ("GET", "/a#b"),
        Representation::Incremental,
        HUFFMAN,
    );
    for cut in 0..=block.len() {
        let (first, second) = block.split_at(cut);
        let first = [&[3, 0, 0, 0, 0, 7], first, &[0; 3]].concat();
        let frames = [
            frame(HEADERS, END_STREAM | PADDED | PRIORITY, 1, &first),
            frame(CONTINUATION, END_HEADERS, 1, second),
        ];
        let mut client = server.connect_tls("h2").await;
        client.send([START, &frames.concat()].concat()).await;
        let text = client.frame_of(DATA).await;
        assert_eq!(
            text,
            b"the target holds a character that a URI may not hold"
        );
    }
}

/// RFC 9113, 8.1: a stream error; the connection and its dynamic table go on.
#[tokio::test]
async fn trailers_with_a_pseudo_header_reset_their_stream() {
    let server = TestListener::new(Options::tls()).await;
    let mut client = server.connect_tls("h2").await;
    let mut encoder = Encoder::new();
    let mut post = |stream, trailers: &[(&str, &str)]| {
        let head = block(
            &mut encoder,
            ("POST", "/echo"),
            Representation::Indexed,
            PLAIN,
        );
        let trailers: Vec<u8> = trailers
            .iter()
            .flat_map(|(name, value)| {
                let (name, value) = (name.as_bytes(), value.as_bytes());
                encoder.field(name, value, Representation::Incremental, PLAIN)
            })
            .collect();
        [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, 0, stream, b"text"),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers),
        ]
        .concat()
    };
    let (legal, pseudo) = (post(1, &[("x-sum", "1")]), post(3, &[(":path", "/a#b")]));
    let again = post(5, &[("x-sum", "2")]);
    client.send([START, &legal].concat()).await;
    assert_eq!(client.frame_of(DATA).await, b"text");
    client.send(pseudo).await;
    // PROTOCOL_ERROR.
    assert_eq!(client.frame_of(RST_STREAM).await, [0, 0, 0, 1]);
    assert_eq!(server.count(MalformedReason::Body), 1);
    client.send(again).await;
    assert_eq!(client.frame_of(DATA).await, b"text");
    // The path of the trailers is in the table now.
    let head = block(
        &mut encoder,
        ("GET", "/a#b"),
        Representation::Indexed,
        PLAIN,
    );
    assert_eq!(head.len(), 4);
    client
        .send(frame(HEADERS, END_HEADERS | END_STREAM, 7, &head))
        .await;
    let text = client.frame_of(DATA).await;
    assert_eq!(
        text,
        b"the target holds a character that a URI may not hold"
    );
}

/// h2 resets a stream that depends on itself (RFC 7540, 5.3.1) without decoding its header block.
#[tokio::test]
async fn requests_behind_a_block_that_was_not_decoded_are_reset() {
    let server = TestListener::new(Options::tls()).await;
    let mut client = server.connect_tls("h2").await;
    let block = block(
        &mut Encoder::new(),
        ("GET", "/a"),
        Representation::Without,
        PLAIN,
    );
    let priority = [0, 0, 0, 1, 7];
    let dependent = [&priority[..], &block].concat();
    let flags = END_HEADERS | END_STREAM;
    client
        .send([START, &frame(HEADERS, flags | PRIORITY, 1, &dependent)].concat())
        .await;
    assert_eq!(client.frame_of(RST_STREAM).await, [0, 0, 0, 1]);
    client.send(frame(HEADERS, flags, 3, &block)).await;
    assert_eq!(client.frame_of(RST_STREAM).await, [0, 0, 0, 1]);
}

/// h2 and the observer below it agree with the encoder over many blocks, whose entries are evicted.
#[tokio::test]
async fn legal_requests_in_any_representation_are_served() {
    use Representation::{Incremental, Indexed, Never, Without};
    let server = TestListener::new(Options::tls()).await;
    let mut client = server.connect_tls("h2").await;
    let mut encoder = Encoder::new();
    client.send(START).await;
    for nth in 0..120_u8 {
        let representation = [Indexed, Incremental, Without, Never][usize::from(nth % 7) % 4];
        let strings = Strings {
            is_huffman: nth % 2 == 0,
            spells_name: nth % 3 == 0,
        };
        let path = format!("/{}?{nth}", "path~!'()*".repeat(usize::from(nth % 5)));
        let mut head = if nth % 40 == 7 {
            encoder.resize(if nth % 80 == 7 { 300 } else { 4096 })
        } else {
            Vec::new()
        };
        head.extend(block(&mut encoder, ("GET", &path), representation, strings));
        let agent = format!("agent #{}{}", nth % 11, "^|".repeat(usize::from(nth % 90)));
        head.extend(encoder.field(b"user-agent", agent.as_bytes(), representation, strings));
        client
            .send(frame(HEADERS, END_HEADERS | END_STREAM, nth * 2 + 1, &head))
            .await;
        let text = String::from_utf8(client.frame_of(DATA).await).unwrap();
        assert_eq!(text, format!("GET {path} x"));
    }
}
