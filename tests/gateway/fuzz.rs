//! Runs the fuzz targets over their corpus, and over truncated and mutated copies of each entry.

use std::path::Path;

#[path = "../fuzz/targets.rs"]
mod targets;

/// Runs a target over its seeds, every eighth prefix of them, and copies with single bytes changed.
fn walk(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut seeds = 0;
    for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        seeds += 1;
        target(&seed);
        let step = (seed.len() / 24).max(1);
        for at in (0..seed.len()).step_by(step) {
            target(&seed[..at]);
            let mut changed = seed.clone();
            for byte in [0, b'\n', b'"', 0xff, seed[at] ^ 1] {
                changed[at] = byte;
                target(&changed);
            }
        }
    }
    assert!(seeds >= 5, "{name} has {seeds} seeds");
}

#[test]
fn authorization() {
    walk("authorization", targets::authorization);
}

#[test]
fn token() {
    walk("token", targets::token);
}

#[test]
fn request_head() {
    walk("request_head", targets::request_head);
}

#[test]
fn http2_frames() {
    walk("http2_frames", targets::http2_frames);
}

#[test]
fn body() {
    walk("body", targets::body);
}

#[test]
fn presigned_url() {
    walk("presigned_url", targets::presigned_url);
}

#[test]
fn node_answer() {
    walk("node_answer", targets::node_answer);
}

#[test]
fn node_response() {
    walk("node_response", targets::node_response);
}

#[test]
fn proxy_header() {
    walk("proxy_header", targets::proxy_header);
}

#[test]
fn configuration() {
    walk("configuration", targets::configuration);
}
