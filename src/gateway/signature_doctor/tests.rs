use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, header};

use super::*;
use crate::auth::AuthError;
use crate::config::Config;
use crate::metrics::Metrics;

const SECRET: &str = "the-secret-of-the-access-key";

/// A snapshot with the access keys `known` and `other`.
fn snapshot(telemetry: &str) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("cert.pem", &made.cert.pem());
    write("cert.key", &made.signing_key.serialize_pem());
    write("sk", SECRET);
    let text = format!(
        "[listeners.one]
        bind = \"127.0.0.1:0\"
        cluster = \"ccfs\"
        tls = {{ certificate = \"cert.pem\", private_key = \"cert.key\" }}
        [clusters.ccfs]
        nodes = [\"https://10.1.2.3:8443\"]
        tls = {{ ca = \"cert.pem\" }}
        [access_key_defaults]
        secret_key_file = \"sk\"
        time_zone = \"GMT+8\"
        [access_keys.known]
        [access_keys.other]
        [telemetry]
        {telemetry}"
    );
    let text = text.replace(
        "[access_key_defaults]\n        secret_key_file = \"sk\"",
        "[access_key_defaults]",
    );
    let text = text
        .replace(
            "[access_keys.known]",
            "[access_keys.known]\nsecret_key_file = \"sk\"",
        )
        .replace(
            "[access_keys.other]",
            "[access_keys.other]\nsecret_key_file = \"sk\"",
        );
    match Config::parse(&text, &folder.path().join("gateway.toml")) {
        Ok((config, _)) => Snapshot::next(&config, None),
        Err(wrong) => panic!("{wrong}"),
    }
}

struct Fixture {
    doctor: SignatureDoctor,
    rounds: Rounds,
    snapshot: Snapshot,
    metrics: Metrics,
}

impl Fixture {
    fn new() -> Self {
        Self {
            doctor: SignatureDoctor::default(),
            rounds: Rounds::new(),
            snapshot: snapshot(""),
            metrics: Metrics::default(),
        }
    }

    /// A request of `access_key` that was signed with a line end behind the secret.
    fn head(access_key: &str, secret: &str) -> Parts {
        let request = Request::post("/CCFS/resource/ccfs/x")
            .header("host", "gw:1")
            .header("x-private", "CANARY");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let credential = crate::auth::Credential::new(
            access_key.into(),
            vec![crate::auth::Secret::new(secret.into())],
            true,
        );
        let signable = crate::auth::Signable {
            method: "POST",
            path: head.uri.path(),
            query: None,
            headers: &head.headers,
            body: b"{}",
        };
        let value =
            crate::auth::sign(&credential, "host", Timestamp::UNIX_EPOCH, &signable).unwrap();
        head.headers.insert(header::AUTHORIZATION, value);
        head
    }

    fn put_aside(&self, access_key: &str, secret: &str, client: u8) {
        let head = Self::head(access_key, secret);
        let origin = CaseOrigin {
            request_id: HeaderValue::from_static("id-1"),
            client: Ipv4Addr::new(10, 0, 0, client).into(),
            at: Timestamp::UNIX_EPOCH,
            cluster: self.snapshot.clusters()["ccfs"].clone(),
            listener: (Ipv4Addr::LOCALHOST.into(), 28443),
        };
        let body = Bytes::from_static(b"{}");
        self.doctor
            .put_aside(|| Case::new(origin, &head, Some(&body), AuthError::WrongSignature));
    }

    fn tick(&mut self) {
        self.doctor
            .tick(&mut self.rounds, &self.snapshot, &self.metrics.add_shard());
    }

    fn count(&self, hint: SignatureHint) -> u64 {
        self.metrics.sum().get(hint)
    }
}

fn now() -> Timestamp {
    super::super::context::wall_clock()
}

#[test]
fn a_case_is_worked_on_once_and_shown() {
    let mut all = Fixture::new();
    all.put_aside("known", &format!("{SECRET}\n"), 1);
    all.tick();
    all.tick();
    assert_eq!(all.count(SignatureHint::SecretLineEnd), 1);
    let found = all.doctor.found("known", now());
    assert_eq!(found, Some(Mistake::SecretLineEnd));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(all.doctor.found("known", now() + day), None);
    let live = all.doctor.live_case("known", now()).unwrap();
    assert_eq!(
        (live.mistake, live.names.as_str()),
        (Mistake::SecretLineEnd, "host")
    );
    assert_eq!(live.headers["host"], "gw:1");
    assert_eq!((live.lengths["x-private"], live.lengths["(body)"]), (6, 2));
    let shown = format!("{live:?} {:?}", all.doctor);
    let signature = Fixture::head("known", &format!("{SECRET}\n"));
    let signature = signature.headers[header::AUTHORIZATION].to_str().unwrap();
    let (_, signature) = signature.rsplit_once('/').unwrap();
    assert!(!shown.contains("CANARY") && !shown.contains(signature));
}

#[test]
fn an_unknown_access_key_is_worked_on_too_and_nothing_is_kept_for_explain() {
    let mut all = Fixture::new();
    all.put_aside("stranger", SECRET, 1);
    all.tick();
    assert_eq!(all.count(SignatureHint::NothingFitted), 1);
    assert_eq!(all.doctor.live_case("stranger", now()), None);
    assert_eq!(all.doctor.found("stranger", now()), None);
}

#[test]
fn where_nothing_fitted_the_access_key_is_left_alone_for_that_address() {
    let mut all = Fixture::new();
    for client in [1, 1, 1, 2] {
        all.put_aside("known", "another secret", client);
        all.tick();
    }
    assert_eq!(all.count(SignatureHint::NothingFitted), 2);
    let found = all.doctor.found("known", now());
    assert_eq!(found, Some(Mistake::NothingFitted), "it was looked for");
    all.put_aside("other", "another secret", 1);
    all.tick();
    assert_eq!(all.count(SignatureHint::NothingFitted), 3);
}

#[test]
fn the_inbox_is_bounded_and_keeps_room_for_the_next() {
    let all = Fixture::new();
    for client in 0..200 {
        all.put_aside("known", SECRET, client);
    }
    let (cases, bytes) = all.doctor.inbox.lock().held();
    assert_eq!(cases, 64);
    assert!(bytes < 4 << 20);
    let mut inbox = Inbox::default();
    for _ in 0..200 {
        let head = Fixture::head("known", SECRET);
        let origin = CaseOrigin {
            request_id: HeaderValue::from_static("id"),
            client: Ipv4Addr::LOCALHOST.into(),
            at: Timestamp::UNIX_EPOCH,
            cluster: all.snapshot.clusters()["ccfs"].clone(),
            listener: (Ipv4Addr::LOCALHOST.into(), 1),
        };
        let body = Bytes::from(vec![b'x'; 64 << 10]);
        inbox.add(Case::new(
            origin,
            &head,
            Some(&body),
            AuthError::WrongSignature,
        ));
        assert!(inbox.held().1 <= 4 << 20);
    }
    assert!(inbox.held().0 > 50);
}

#[test]
fn a_request_never_waits_for_the_doctor() {
    let all = Fixture::new();
    let held = all.doctor.inbox.lock();
    all.put_aside("known", SECRET, 1);
    assert_eq!(held.held().0, 0);
}

#[test]
fn a_claim_is_shown_short_and_a_secret_never() {
    for (telemetry, long) in [
        ("", "an-acces… (200 characters)"),
        (
            "log_claimed_ak = true",
            &format!("{}…", &"an-access-key".repeat(16)[..64]),
        ),
    ] {
        let snapshot = snapshot(telemetry);
        let shown = |claimed: &str| super::super::claims::shown(claimed, &snapshot);
        let claimed = &"an-access-key".repeat(16)[..200];
        assert_eq!(&*shown(claimed), long);
        assert_eq!(&*shown("known"), "known");
        assert_eq!(&*shown(SECRET), "a secret key where the ak belongs");
    }
}

#[test]
fn the_time_is_one_per_cent_of_a_core() {
    let mut rounds = Rounds::new();
    let spin = || {
        let mut sum = 0_u64;
        while sum < 40_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
    };
    let mut worked = 0;
    for _ in 0..600 {
        rounds.begin_tick();
        if rounds.has_time() {
            rounds.spend(spin);
            worked += 1;
        }
    }
    // A minute: 600 ms, what was saved, and one case over it.
    assert!(worked < 100, "{worked}");
}
