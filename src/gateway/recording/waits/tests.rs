use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Shorter than in the program, so that the tests are quick.
const INTERVAL: Duration = Duration::from_millis(50);

const SETTINGS: WaitSettings = WaitSettings {
    max_wait: Duration::from_secs(30),
    max_waiters: 100,
    max_polls: 1000,
};

fn key(access_key: &str, payload: &'static str) -> CacheKey {
    CacheKey::for_test(access_key, payload)
}

/// A wait for ten seconds; each poll is answered by the next of `answers`, the last one repeated.
struct Waiter {
    waits: Arc<Waits>,
    account: Gauge,
    polls: Arc<AtomicUsize>,
}

impl Waiter {
    fn new() -> Self {
        Self {
            waits: Arc::new(Waits::polling_every(INTERVAL)),
            account: Gauge::default(),
            polls: Arc::default(),
        }
    }

    fn seat(&self, key: &CacheKey) -> Option<Seat> {
        self.waits.join(key, (&self.account, 100), SETTINGS)
    }

    /// Starts a client that waits so many intervals; the poll number `found_at` finds the recording.
    fn start(
        &self,
        key: &CacheKey,
        intervals: u32,
        found_at: usize,
    ) -> tokio::task::JoinHandle<Waited> {
        let seat = self.seat(key).unwrap();
        let polls = self.polls.clone();
        let deadline = Instant::now() + INTERVAL * intervals;
        #[expect(clippy::disallowed_methods, reason = "several clients")]
        tokio::spawn(async move {
            let poll = || async {
                let number = polls.fetch_add(1, Ordering::Relaxed) + 1;
                if number >= found_at {
                    Polled::Ended(WaitEnd::Revoked)
                } else {
                    Polled::Nothing
                }
            };
            seat.wait(&"c".into(), deadline, poll).await
        })
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_key_is_polled_once_a_second_however_many_wait() {
    let all = Waiter::new();
    let key = key("ak", "one");
    let started = Instant::now();
    let waiting: Vec<_> = (0..50).map(|_| all.start(&key, 1000, 4)).collect();
    let mut leaders = 0;
    for waiter in waiting {
        match waiter.await.unwrap() {
            Waited::Ended(_, is_leader) => leaders += usize::from(is_leader),
            Waited::InVain => panic!("not found"),
        }
    }
    assert_eq!((leaders, all.polls()), (1, 4));
    assert!(started.elapsed() >= INTERVAL * 4);
    assert_eq!((all.waits.waiters(), all.account.count()), (0, 0));
    assert!(all.waits.keys.lock().is_empty());
}

#[tokio::test]
async fn when_the_leader_leaves_the_next_one_goes_on() {
    let all = Waiter::new();
    let key = key("ak", "one");
    let short = all.start(&key, 2, usize::MAX);
    let gone = all.start(&key, 100_000, usize::MAX);
    let long = all.start(&key, 5, usize::MAX);
    assert!(matches!(short.await.unwrap(), Waited::InVain));
    // The second leads now, and disconnects.
    gone.abort();
    assert!(matches!(long.await.unwrap(), Waited::InVain));
    assert!((1..=5).contains(&all.polls()), "{}", all.polls());
    assert!(all.waits.keys.lock().is_empty());
}

#[tokio::test]
async fn the_pace_holds_for_a_cluster_and_a_quarter_of_it_for_an_access_key() {
    let settings = WaitSettings {
        max_polls: 100,
        ..SETTINGS
    };
    let pace = Pace::default();
    let began = Instant::now();
    let keys = ["one", "two"].map(|access_key| key(access_key, "p"));
    let cluster = Arc::from("c");
    for number in 0..10_u32 {
        let at = pace.reserve_cluster(&cluster, settings) - began;
        assert!(at >= Duration::from_millis(10) * number, "{number}: {at:?}");
        for key in &keys {
            let at = pace.reserve_access_key(key, settings) - began;
            assert!(at >= Duration::from_millis(40) * number, "{number}: {at:?}");
            assert!(at < Duration::from_millis(40) * number + Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn a_lack_of_budget_ends_only_the_own_wait() {
    let all = Waiter::new();
    let key = key("ak", "one");
    let (poor, rich) = (all.seat(&key).unwrap(), all.seat(&key).unwrap());
    let cluster = "c".into();
    let deadline = Instant::now() + Duration::from_secs(100);
    let no_budget = || async { Polled::NoBudget };
    let found = || async { Polled::Ended(WaitEnd::Revoked) };
    let started = Instant::now();
    let (poor, rich) = tokio::join!(
        async {
            let waited = poor.wait(&cluster, deadline, no_budget).await;
            (waited, started.elapsed())
        },
        rich.wait(&cluster, deadline, found)
    );
    assert!(matches!(poor.0, Waited::InVain) && poor.1 < Duration::from_secs(50));
    assert!(matches!(rich, Waited::Ended(_, true)));
    assert!(started.elapsed() < Duration::from_secs(50));
}

#[tokio::test]
async fn a_drain_releases_all_and_nobody_waits_after_it() {
    let all = Waiter::new();
    let key = key("ak", "one");
    let started = Instant::now();
    let waiting: Vec<_> = (0..5)
        .map(|_| all.start(&key, 100_000, usize::MAX))
        .collect();
    tokio::task::yield_now().await;
    all.waits.close();
    for waiter in waiting {
        assert!(matches!(waiter.await.unwrap(), Waited::InVain));
    }
    assert!(started.elapsed() < Duration::from_secs(50));
    assert!(all.seat(&key).is_none());
    assert_eq!(all.waits.waiters(), 0);
}

#[tokio::test]
async fn places_are_bounded_in_all_and_for_an_account() {
    let all = Waiter::new();
    let key = key("ak", "one");
    let few = WaitSettings {
        max_waiters: 2,
        ..SETTINGS
    };
    let join = |limit| all.waits.join(&key, (&all.account, limit), few);
    let one = join(1).unwrap();
    assert!(join(1).is_none(), "the account");
    let two = join(2).unwrap();
    assert!(join(3).is_none(), "all");
    drop((one, two));
    assert!(join(1).is_some());
}

#[tokio::test]
async fn who_asks_after_a_purge_shares_no_poll_with_those_before() {
    let all = Waiter::new();
    let key = key("ak", "one");
    let before = all.seat(&key).unwrap();
    all.waits.forget(|key| key.access_key().as_str() == "ak");
    let after = all.seat(&key).unwrap();
    assert!(!Arc::ptr_eq(&before.wait, &after.wait));
    drop(before);
    assert_eq!(all.waits.keys.lock().len(), 1, "the later wait stays");
    drop(after);
    assert!(all.waits.keys.lock().is_empty());
}
