use proptest::prelude::*;

use super::*;
use crate::ccfs::{Lookup, Versionless, find_endpoint, parse_zone};

fn endpoint(name: &str) -> &'static Endpoint {
    match find_endpoint(
        &http::Method::POST,
        &format!("{}{name}", crate::ccfs::PREFIX),
    ) {
        Lookup::Found(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

fn recording() -> &'static Endpoint {
    endpoint("getRecordFileUrlFromObs")
}

fn tenant(zone: &str, versionless: Option<Versionless>) -> Tenant {
    Tenant {
        zone: parse_zone(zone).unwrap(),
        versionless,
    }
}

/// A request as players send it, with times in UTC.
fn body(call_id: &str) -> Bytes {
    format!(
        r#"{{ "version": "2.0", "callId": "{call_id}", "beginTime": "2022-01-02T02:00:00Z", "endTime": "2022-01-02T03:00:00Z" }}"#
    )
    .into()
}

/// All that a payload tells.
fn parts(payload: &Payload) -> impl Eq + std::fmt::Debug + use<> {
    (
        payload.outgoing().clone(),
        payload.is_changed(),
        payload.cache_key().cloned(),
        payload.owned_call_id(),
        payload.file_name().map(str::to_owned),
        payload.sent_times(),
    )
}

fn remembered(bodies: &NormalizedBodies) -> usize {
    let sets = bodies.sets.lock();
    sets.iter()
        .map(|set| set.bodies.iter().flatten().count())
        .sum()
}

/// Where two hashes are equal, the bytes decide, the interface, and how times are read.
#[test]
fn a_body_is_compared_whole() {
    let (raw, shanghai) = (body("1"), tenant("Asia/Shanghai", None));
    let payload = recording().normalize(&raw, &shanghai).unwrap();
    let remembered = NormalizedBody::new(7, recording(), &raw, &shanghai, &payload);
    assert!(remembered.is_of(recording(), &body("1"), &tenant("Asia/Shanghai", None)));
    assert!(!remembered.is_of(recording(), &body("2"), &shanghai));
    assert!(!remembered.is_of(recording(), &raw.slice(1..), &shanghai));
    assert!(!remembered.is_of(endpoint("queryBillData"), &raw, &shanghai));
    assert!(!remembered.is_of(recording(), &raw, &tenant("Europe/Berlin", None)));
}

#[test]
fn the_third_request_finds_what_the_second_left() {
    let bodies = NormalizedBodies::default();
    let (raw, shanghai) = (body("1"), tenant("Asia/Shanghai", None));
    let direct = recording().normalize(&raw, &shanghai).unwrap();
    let mut outgoing = Vec::new();
    for expected in [0, 1, 1, 1] {
        let payload = bodies.normalize(recording(), &raw, &shanghai).unwrap();
        assert_eq!(parts(&payload), parts(&direct));
        assert_eq!(remembered(&bodies), expected);
        outgoing.push(payload.outgoing().clone());
    }
    assert_ne!(outgoing[1].as_ptr(), outgoing[2].as_ptr());
    assert_eq!(outgoing[2].as_ptr(), outgoing[3].as_ptr());
}

#[test]
fn tenants_and_interfaces_have_their_own() {
    let bodies = NormalizedBodies::default();
    let raw = body("1");
    let without_version = Bytes::from_static(
        br#"{"callId":"1","beginTime":"2022-01-02 10:00:00","endTime":"2022-01-02 11:00:00"}"#,
    );
    let tenants = [
        tenant("Asia/Shanghai", None),
        tenant("Europe/Berlin", None),
        tenant("GMT+9", None),
        tenant("Europe/Berlin", Some(Versionless::Utc)),
        tenant("Europe/Berlin", Some(Versionless::Local)),
        tenant("Europe/Berlin", Some(Versionless::Reject)),
    ];
    for _ in 0..4 {
        for tenant in &tenants {
            for raw in [&raw, &without_version] {
                let direct = recording().normalize(raw, tenant);
                let payload = bodies.normalize(recording(), raw, tenant);
                assert_eq!(
                    payload.as_ref().ok().map(parts),
                    direct.as_ref().ok().map(parts)
                );
            }
        }
        let envelope = endpoint("queryBillData")
            .normalize(&raw, &tenants[0])
            .unwrap();
        let other = bodies.normalize(endpoint("queryBillData"), &raw, &tenants[0]);
        assert_eq!(parts(&other.unwrap()), parts(&envelope));
    }
}

#[test]
fn rejected_large_and_unique_bodies_are_not_remembered() {
    let bodies = NormalizedBodies::default();
    let shanghai = tenant("Asia/Shanghai", None);
    let large = body(&"7".repeat(MAX_BODY));
    let invalid = Bytes::from_static(b"{");
    for _ in 0..4 {
        let _rejected = bodies.normalize(recording(), &large, &shanghai);
        bodies
            .normalize(recording(), &invalid, &shanghai)
            .unwrap_err();
    }
    for n in 0..1000 {
        bodies
            .normalize(recording(), &body(&n.to_string()), &shanghai)
            .unwrap();
    }
    assert_eq!(remembered(&bodies), 0);
}

#[test]
fn bodies_that_come_once_push_out_no_other() {
    let bodies = NormalizedBodies::default();
    let shanghai = tenant("Asia/Shanghai", None);
    let normalize = |n: usize| bodies.normalize(recording(), &body(&n.to_string()), &shanghai);
    for n in 0..SETS * WAYS {
        normalize(n).unwrap();
        normalize(n).unwrap();
    }
    let kept: Vec<_> = (0..SETS * WAYS).map(|n| normalize(n).unwrap()).collect();
    let before = remembered(&bodies);
    for n in 0..20_000 {
        normalize(1_000_000 + n).unwrap();
    }
    assert_eq!(remembered(&bodies), before);
    // The last one of all is remembered surely.
    let last = SETS * WAYS - 1;
    let again = normalize(last).unwrap();
    assert_eq!(again.outgoing().as_ptr(), kept[last].outgoing().as_ptr());
}

#[test]
fn no_more_is_remembered_than_there_are_places() {
    let bodies = NormalizedBodies::default();
    let shanghai = tenant("Asia/Shanghai", None);
    for n in 0..SETS * WAYS * 2 {
        for _ in 0..2 {
            bodies
                .normalize(recording(), &body(&n.to_string()), &shanghai)
                .unwrap();
        }
    }
    let remembered = remembered(&bodies);
    assert!(
        (SETS * WAYS / 2..=SETS * WAYS).contains(&remembered),
        "{remembered}"
    );
}

proptest! {
    #[test]
    fn it_is_what_normalizing_gives(requests in prop::collection::vec((0..4_u8, 0..3_usize), 1..60)) {
        let bodies = NormalizedBodies::default();
        let tenants = ["Asia/Shanghai", "UTC", "Asia/Taipei"].map(|zone| tenant(zone, None));
        for (call, zone) in requests {
            let (raw, tenant) = (body(&call.to_string()), &tenants[zone]);
            let direct = recording().normalize(&raw, tenant).unwrap();
            let payload = bodies.normalize(recording(), &raw, tenant).unwrap();
            prop_assert_eq!(parts(&payload), parts(&direct));
        }
    }
}
