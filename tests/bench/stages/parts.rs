//! Single stages: pure functions.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ccfs_gateway::auth::{Claim, Credential, Signable};
use ccfs_gateway::ccfs::presigned_url;
use ccfs_gateway::ccfs::{Endpoint, Lookup, Tenant, find_endpoint, parse_zone};
use ccfs_gateway::client::{ClientRequest, RECORDING_PATH};
use ccfs_gateway::cluster::Choice;
use ccfs_gateway::config::Config;
use ccfs_gateway::gateway::Snapshot;
use ccfs_gateway::listener::{HeadLimits, fuzzing};
use divan::Bencher;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::site::{Gateway, Site, credential, recording, wire};

/// The first request of a caller in a second: the signing key is derived and cached.
#[divan::bench]
fn verify_with_a_cold_key(bencher: Bencher<'_, '_>) {
    let request = recording(0, CALL_ID);
    // A key derived from one secret is never used for another, even if their bytes are equal.
    bencher
        .with_inputs(|| credential(0))
        .bench_refs(|credential| verify(&request, credential));
}

/// Every further request of a caller in the same second.
#[divan::bench]
fn verify_with_the_key_at_hand(bencher: Bencher<'_, '_>) {
    let (request, credential) = (recording(0, CALL_ID), credential(0));
    bencher.bench_local(|| verify(&request, &credential));
}

fn verify(request: &ClientRequest, credential: &Arc<Credential>) {
    let claim = Claim::parse(&request.headers, Timestamp::now(), None).unwrap();
    let signable = Signable {
        method: request.method.as_str(),
        path: request.path(),
        query: None,
        headers: &request.headers,
        body: &request.body,
    };
    black_box(claim.verify(Some(credential), &signable).unwrap());
}

/// A body that needs no change, one without version (UTC), and one with offsets.
#[divan::bench(args = ["without change", "without version", "with offsets"])]
fn normalize(bencher: Bencher<'_, '_>, body: &str) {
    let (endpoint, tenant) = (recording_url(), tenant());
    let body = Bytes::from_static(match body {
        "without version" => WITHOUT_VERSION,
        "with offsets" => WITH_OFFSETS,
        _ => AS_IT_SHOULD_BE,
    });
    bencher.bench_local(|| endpoint.normalize(black_box(&body), &tenant).unwrap());
}

/// Selects one of `nodes` healthy nodes.
#[divan::bench(args = [2, 10, 200, 500])]
fn choose_a_node(bencher: Bencher<'_, '_>, nodes: usize) {
    let nodes: Vec<_> = (0..nodes)
        .map(|number| format!("https://127.0.0.1:{}", 1024 + number))
        .collect();
    let site = Site::new();
    let gateway = Gateway {
        nodes: &nodes,
        ..Gateway::default()
    };
    let (config, _) = Config::load(&site.configure("gateway", &gateway)).unwrap();
    let snapshot = Snapshot::next(&config, None);
    let cluster = &snapshot.clusters()["ccfs"];
    let choice = Choice {
        flow: None,
        hash_key: 0,
        tried: &[],
        avoided: &[],
        now: Instant::now(),
    };
    bencher.bench_local(|| drop(cluster.pick_first(choice).unwrap()));
}

/// Reads the expiry of a pre-signed URL, by its form.
#[divan::bench(args = ["obs-default-8h", "s3v2-default-8h", "s3v4-default-8h"])]
fn read_the_expiry(bencher: Bencher<'_, '_>, name: &str) {
    let samples: Value = serde_json::from_str(include_str!("../../vectors/obs-urls.json")).unwrap();
    let sample = samples
        .as_array()
        .unwrap()
        .iter()
        .find(|sample| sample["name"] == name);
    let url = sample.unwrap()["url"].as_str().unwrap();
    bencher.bench_local(|| presigned_url::expires_at(black_box(url)).unwrap());
}

/// Validates head and framing of a request, including the copy of the forwarded bytes.
#[divan::bench]
fn judge_a_request(bencher: Bencher<'_, '_>) {
    let bytes = wire(&recording(0, CALL_ID));
    let limits = HeadLimits {
        size: 32 * 1024,
        fields: 100,
    };
    assert_eq!(fuzzing::scan_requests(&bytes, bytes.len(), limits).heads, 1);
    bencher.bench_local(|| fuzzing::scan_requests(black_box(&bytes), bytes.len(), limits));
}

fn recording_url() -> &'static Endpoint {
    match find_endpoint(&Method::POST, RECORDING_PATH) {
        Lookup::Found(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

fn tenant() -> Tenant {
    Tenant {
        zone: parse_zone("Asia/Shanghai").unwrap(),
        versionless: None,
    }
}

const CALL_ID: &str = "1637742300-27";

const AS_IT_SHOULD_BE: &[u8] = br#"{"callId":"1637742300-27","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}"#;
const WITHOUT_VERSION: &[u8] = br#"{"callId":"1637742300-27","beginTime":"2021-11-24 08:25:03","endTime":"2021-11-24 09:25:11"}"#;
const WITH_OFFSETS: &[u8] = br#"{"callId":"1637742300-27","beginTime":"2021-11-24T16:25:03+08:00","endTime":"2021-11-24T17:25:11+08:00"}"#;
