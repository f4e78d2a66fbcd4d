use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::*;
use crate::ccfs::ParsedResponse;
use crate::config;
use crate::message::AttemptSummary;

fn settings() -> config::Cache {
    config::Cache {
        max_size: 1 << 20,
        expiry_margin: Duration::from_secs(600),
        minimum_life: Duration::from_secs(60),
        stale_if_error: true,
        negative_ttl: Duration::from_secs(2),
        success_codes: vec!["0".to_owned()],
        max_wait: Duration::ZERO,
        max_waiters: 1,
        max_polls: 1,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn response(code: &str, expires_at: Option<i64>) -> BufferedResponse {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    BufferedResponse {
        status: StatusCode::OK,
        headers,
        body: Bytes::from_static(b"{}"),
        parsed: Some(Arc::new(ParsedResponse {
            result_code: Some(code.into()),
            expires_at: expires_at.map(at),
        })),
        attempts: AttemptSummary::default(),
    }
}

struct Fixture {
    cache: Cache,
    policy: CachePolicy,
}

impl Fixture {
    fn new(settings: &config::Cache) -> Self {
        Self {
            cache: Cache::new(settings.max_size),
            policy: CachePolicy::from(settings),
        }
    }

    fn insert(
        &self,
        ak: &str,
        call_id: &str,
        response: &BufferedResponse,
        now: i64,
    ) -> InsertOutcome {
        let key = CacheKey::for_test(ak, "{}");
        let token = self.cache.begin_insert(&key, Some(call_id));
        self.cache.insert(&token, response, &self.policy, at(now))
    }

    fn purge(&self, purge: Purge) -> usize {
        let handle = self.cache.begin_purge(purge.into());
        self.cache.sweep();
        handle.removed()
    }

    fn freshness(&self, ak: &str, now: i64) -> Option<Freshness> {
        self.cache
            .get(&CacheKey::for_test(ak, "{}"), &self.policy, at(now))
            .map(|hit| hit.freshness)
    }
}

#[test]
fn a_response_is_fresh_until_the_margin_and_usable_until_the_minimum_life() {
    let f = Fixture::new(&settings());
    assert_eq!(
        f.insert("a", "1", &response("0", Some(28_800)), 0),
        InsertOutcome::Stored
    );
    assert_eq!(f.freshness("a", 28_199), Some(Freshness::Fresh));
    assert_eq!(f.freshness("a", 28_200), Some(Freshness::StaleIfError));
    assert_eq!(f.freshness("a", 28_739), Some(Freshness::StaleIfError));
    assert_eq!(f.freshness("a", 28_740), None);
    assert_eq!(f.freshness("b", 0), None);
    let hit = f
        .cache
        .get(&CacheKey::for_test("a", "{}"), &f.policy, at(100))
        .unwrap();
    assert_eq!((hit.age(at(100)), hit.ttl(at(100))), (100, 28_100));
}

#[test]
fn without_stale_if_error_nothing_is_usable_inside_the_margin() {
    let f = Fixture::new(&config::Cache {
        stale_if_error: false,
        ..settings()
    });
    f.insert("a", "1", &response("0", Some(28_800)), 0);
    assert_eq!(f.freshness("a", 28_200), None);
}

#[test]
fn only_successes_with_a_known_and_distant_expiry_are_stored() {
    let f = Fixture::new(&settings());
    for refused in [
        response("0", None),
        response("0", Some(600)),
        response("0", Some(-1)),
        response("0100000", Some(28_800)),
        response("0300009", Some(28_800)),
        BufferedResponse {
            status: StatusCode::CREATED,
            ..response("0", Some(28_800))
        },
        BufferedResponse {
            parsed: None,
            ..response("0", Some(28_800))
        },
    ] {
        assert_eq!(
            f.insert("a", "1", &refused, 0),
            InsertOutcome::NotStored,
            "{refused:?}"
        );
    }
    assert_eq!(
        f.insert("a", "1", &response("0", Some(602)), 0),
        InsertOutcome::Stored
    );
}

#[test]
fn a_purge_removes_what_matches_and_invalidates_tokens() {
    let f = Fixture::new(&settings());
    let stored = response("0", Some(28_800));
    let insert_all = || {
        f.insert("a", "1", &stored, 0);
        f.insert("b", "2", &stored, 0);
    };
    let left = || ["a", "b"].map(|ak| f.freshness(ak, 1).is_some());
    insert_all();
    f.purge(Purge {
        access_key: Some("a".into()),
        call_id: None,
    });
    assert_eq!(left(), [false, true]);
    insert_all();
    f.purge(Purge {
        access_key: None,
        call_id: Some("2".into()),
    });
    assert_eq!(left(), [true, false]);
    insert_all();
    f.purge(Purge {
        access_key: Some("a".into()),
        call_id: Some("2".into()),
    });
    assert_eq!(left(), [true, true]);
    let key = CacheKey::for_test("a", "{}");
    let token = f.cache.begin_insert(&key, None);
    f.purge(Purge::default());
    assert_eq!(left(), [false, false]);
    let offered = f.cache.insert(&token, &stored, &f.policy, at(0));
    assert_eq!(
        (offered, left()),
        (InsertOutcome::NotStored, [false, false])
    );
}

/// The purge of another access key or call leaves a fetch in progress alone.
#[test]
fn a_fetch_is_stored_unless_a_purge_covers_it() {
    let stored = response("0", Some(28_800));
    for (access_key, call_id, outcome) in [
        (Some("b"), None, InsertOutcome::Stored),
        (None, Some("2"), InsertOutcome::Stored),
        (Some("a"), Some("2"), InsertOutcome::Stored),
        (Some("a"), None, InsertOutcome::NotStored),
        (None, Some("1"), InsertOutcome::NotStored),
        (Some("a"), Some("1"), InsertOutcome::NotStored),
        (None, None, InsertOutcome::NotStored),
    ] {
        let f = Fixture::new(&settings());
        let key = CacheKey::for_test("a", "{}");
        let token = f.cache.begin_insert(&key, Some("1"));
        f.purge(Purge {
            access_key: access_key.map(Into::into),
            call_id: call_id.map(Into::into),
        });
        let inserted = f.cache.insert(&token, &stored, &f.policy, at(0));
        assert_eq!(inserted, outcome, "{access_key:?} {call_id:?}");
        let is_usable = f.cache.get(&key, &f.policy, at(1)).is_some();
        assert_eq!(is_usable, outcome == InsertOutcome::Stored);
    }
}

#[test]
fn a_purge_is_effective_before_its_sweep_and_spares_later_entries() {
    let f = Fixture::new(&settings());
    let stored = response("0", Some(28_800));
    for (ak, call_id) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
        f.insert(ak, call_id, &stored, 0);
    }
    let usable = || ["a", "b", "c", "d"].map(|ak| f.freshness(ak, 1).is_some());
    let purge = |access_key: Option<&str>, call_id: Option<&str>| Purge {
        access_key: access_key.map(Into::into),
        call_id: call_id.map(Into::into),
    };
    let set = [
        purge(Some("a"), None),
        purge(None, Some("2")),
        purge(Some("c"), Some("4")),
        purge(Some("d"), Some("4")),
    ];
    let handle = f.cache.begin_purge(set.into_iter().collect());
    assert_eq!(usable(), [false, false, true, false]);
    assert_eq!(f.cache.size().0, 4, "nothing is removed yet");
    assert_eq!(f.insert("a", "1", &stored, 0), InsertOutcome::Stored);
    assert_eq!(usable(), [true, false, true, false]);
    f.cache.sweep();
    assert_eq!(handle.removed(), 2);
    assert_eq!(usable(), [true, false, true, false]);
    assert_eq!(f.cache.size().0, 2);
    assert_eq!(f.insert("b", "2", &stored, 0), InsertOutcome::Stored);
    assert_eq!(usable(), [true, true, true, false]);
}

/// A predicate for each access key would take minutes: keys times entries, for the count and again for
/// each insertion and hit.
#[test]
#[expect(clippy::disallowed_methods, reason = "measured by the clock")]
fn purging_thousands_of_access_keys_is_one_pass() {
    let f = Fixture::new(&config::Cache {
        max_size: 1 << 30,
        ..settings()
    });
    let stored = response("0", Some(28_800));
    let (keys, entries) = (4_000, 8_000);
    for n in 0..entries {
        f.insert(&format!("ak-{n}"), "1", &stored, 0);
    }
    let purges = (0..keys).map(|n| Purge {
        access_key: Some(format!("ak-{n}").as_str().into()),
        call_id: None,
    });
    let started = Instant::now();
    let handle = f.cache.begin_purge(purges.collect());
    f.cache.sweep();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(handle.removed(), keys);
    let usable = (0..entries).filter(|n| f.freshness(&format!("ak-{n}"), 1).is_some());
    assert_eq!(usable.count(), entries - keys);
}

#[test]
fn purges_during_a_sweep_are_effective_and_carried_out_by_the_next() {
    let pending = PendingPurges::default();
    let (a, b) = ("a".into(), "b".into());
    let set = |ak: &crate::auth::AccessKey| {
        PurgeSet::from(Purge {
            access_key: Some(ak.clone()),
            call_id: None,
        })
    };
    let first = pending.begin(set(&a));
    let mut second = None;
    pending.sweep(|is_covered| {
        assert!(is_covered(&a, None, 0) && !is_covered(&a, None, 1));
        second = Some(pending.begin(set(&b)));
        assert!(pending.covers(&a, None, 0) && pending.covers(&b, None, 1));
        assert!(!is_covered(&b, None, 0), "it may have been passed already");
        1
    });
    assert!(!pending.covers(&a, None, 0) && pending.covers(&b, None, 1));
    pending.sweep(|is_covered| {
        assert!(is_covered(&b, None, 1) && !is_covered(&b, None, 2));
        2
    });
    assert!(!pending.covers(&b, None, 1));
    assert_eq!((first.removed(), second.unwrap().removed()), (1, 2));
    pending.sweep(|_| panic!("there is nothing to sweep"));
}

#[test]
fn a_replacing_entry_expires_by_its_own_deadline() {
    let f = Fixture::new(&settings());
    f.insert("a", "1", &response("0", Some(700)), 0);
    f.insert("a", "1", &response("0", Some(28_800)), 1);
    assert_eq!(f.freshness("a", 20_000), Some(Freshness::Fresh));
}

#[test]
fn one_refresh_is_due_in_the_last_tenth_and_again_after_an_interval() {
    let f = Fixture::new(&settings());
    f.insert("a", "1", &response("0", Some(10_600)), 0);
    let key = CacheKey::for_test("a", "{}");
    let hit = f.cache.get(&key, &f.policy, at(0)).unwrap();
    assert!(!hit.should_refresh(at(8_999)));
    assert!(hit.should_refresh(at(9_250)));
    assert!(!hit.should_refresh(at(9_250)) && !hit.should_refresh(at(9_400)));
    assert!(hit.should_refresh(at(9_500)));
}

#[test]
fn an_entry_is_judged_by_the_policy_of_the_request() {
    let f = Fixture::new(&settings());
    f.insert("a", "1", &response("0", Some(28_800)), 0);
    f.insert("b", "1", &response("0300012", None), 0);
    let freshness = |ak: &str, now, change: fn(&mut config::Cache)| {
        let mut settings = settings();
        change(&mut settings);
        let key = CacheKey::for_test(ak, "{}");
        let hit = f.cache.get(&key, &CachePolicy::from(&settings), at(now));
        hit.map(|hit| (hit.freshness, hit.ttl(at(now))))
    };
    let (fresh, stale) = (Freshness::Fresh, Freshness::StaleIfError);
    let seconds = Duration::from_secs;
    assert_eq!(freshness("a", 28_000, |_| {}), Some((fresh, 200)));
    let wider: fn(&mut _) = |it: &mut config::Cache| it.expiry_margin = Duration::from_secs(3600);
    assert_eq!(freshness("a", 28_000, wider), Some((stale, 0)));
    let narrower: fn(&mut _) = |it: &mut config::Cache| it.expiry_margin = Duration::from_secs(300);
    assert_eq!(freshness("a", 28_400, |_| {}), Some((stale, 0)));
    assert_eq!(freshness("a", 28_400, narrower), Some((fresh, 100)));
    assert_eq!(freshness("a", 28_400, |it| it.stale_if_error = false), None);
    let longer: fn(&mut _) = |it: &mut config::Cache| it.minimum_life = Duration::from_secs(500);
    assert_eq!(freshness("a", 28_400, longer), None);
    let shorter: fn(&mut _) = |it: &mut config::Cache| it.minimum_life = Duration::from_secs(1);
    assert_eq!(freshness("a", 28_790, |_| {}), None);
    assert_eq!(freshness("a", 28_790, shorter), Some((stale, 0)));
    let other: fn(&mut _) = |it: &mut config::Cache| it.success_codes = vec!["1".to_owned()];
    assert_eq!(freshness("a", 1, other), None);
    assert_eq!(freshness("b", 1, |_| {}), Some((fresh, 1)));
    let shortest: fn(&mut _) = |it: &mut config::Cache| it.negative_ttl = Duration::from_secs(1);
    assert_eq!(freshness("b", 1, shortest), None);
    // The refresh is due by the same rules.
    let key = CacheKey::for_test("a", "{}");
    let policy = |margin| {
        CachePolicy::from(&config::Cache {
            expiry_margin: seconds(margin),
            ..settings()
        })
    };
    let hit = |margin| f.cache.get(&key, &policy(margin), at(20_000)).unwrap();
    assert!(!hit(600).should_refresh(at(20_000)));
    assert!(hit(8_000).should_refresh(at(20_000)));
    assert!(!hit(8_000).should_refresh(at(20_000)), "once");
}

#[test]
fn the_cache_is_bounded_in_bytes() {
    let f = Fixture::new(&config::Cache {
        max_size: 100_000,
        ..settings()
    });
    let mut stored = response("0", Some(28_800));
    stored.body = Bytes::from(vec![b'x'; 10_000]);
    for ak in 0..50 {
        f.insert(&ak.to_string(), "1", &stored, 0);
    }
    let (entries, weight) = f.cache.size();
    assert!(
        weight <= 100_000 && (1..=9).contains(&entries),
        "{entries} entries of {weight} bytes"
    );
    let off = Fixture::new(&config::Cache {
        max_size: 0,
        ..settings()
    });
    assert_eq!(off.insert("a", "1", &stored, 0), InsertOutcome::NotStored);
}

/// The key is made in a buffer of the size of the body, which a client may fill with whitespace.
#[test]
fn a_stored_key_holds_no_more_than_its_weight() {
    let f = Fixture::new(&settings());
    let mut padded = Vec::with_capacity(60_000);
    padded.extend_from_slice(b"{}");
    let payload = Bytes::from(padded);
    let key = CacheKey::for_test("a", payload.clone());
    let stored = response("0", Some(28_800));
    let token = f.cache.begin_insert(&key, None);
    let outcome = f.cache.insert(&token, &stored, &f.policy, at(0));
    assert_eq!(outcome, InsertOutcome::Stored);
    let later = CacheKey::for_test("b", payload.clone());
    let token = f.cache.begin_insert(&later, None);
    let times = FetchTimes {
        fetched_at: at(0),
        now: at(0),
    };
    let remote = f.cache.insert_remote(&token, &stored, &f.policy, times);
    assert!(remote.is_some());
    drop((key, later));
    assert!(payload.is_unique(), "the cache does not hold the buffer");
    assert_eq!(f.freshness("a", 1), Some(Freshness::Fresh));
}
