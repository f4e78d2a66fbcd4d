use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::*;

fn key() -> CacheKey {
    CacheKey::for_test("ak", "{}")
}

#[tokio::test]
async fn a_hundred_requests_make_one_fetch() {
    let fetches = SingleFlight::new();
    let started = Arc::new(AtomicUsize::new(0));
    let (go, gate) = oneshot::channel::<()>();
    let mut gate = Some(gate);
    let roles: Vec<_> = (0..100)
        .map(|_| {
            fetches.join(&key(), || {
                started.fetch_add(1, Ordering::Relaxed);
                let gate = gate.take();
                async move {
                    if let Some(gate) = gate {
                        let _ = gate.await;
                    }
                    7
                }
            })
        })
        .collect();
    assert_eq!(roles.iter().filter(|role| role.is_leader()).count(), 1);
    go.send(()).unwrap();
    for mut role in roles {
        assert_eq!(role.outcome().await, Some(7));
    }
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert!(fetches.is_empty(), "removed before the outcome is shared");
}

#[tokio::test]
async fn the_fetch_outlives_the_leader() {
    let fetches = SingleFlight::new();
    let (go, gate) = oneshot::channel::<()>();
    let first = fetches.join(&key(), || async move {
        let _ = gate.await;
        "done"
    });
    let mut second = fetches.join(&key(), || async { "never" });
    drop(first);
    go.send(()).unwrap();
    assert_eq!(second.outcome().await, Some("done"));
}

#[tokio::test]
async fn a_fetch_in_progress_continues_after_its_leader_and_wakes_the_followers() {
    let fetches = SingleFlight::new();
    let started = Arc::new(AtomicUsize::new(0));
    let (go, gate) = oneshot::channel::<()>();
    let (fetch, times) = (async { gate.await.map(|()| "done") }, started.clone());
    let mut leader = fetches.join(&key(), || async move {
        times.fetch_add(1, Ordering::Relaxed);
        fetch.await
    });
    let mut leader = Box::pin(async move { leader.outcome().await });
    let mut follower = fetches.join(&key(), || async { Ok("never") });
    let mut follower = Box::pin(follower.outcome());
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(leader.as_mut().poll(&mut context).is_pending());
    assert!(follower.as_mut().poll(&mut context).is_pending());
    drop(leader);
    // The wake-up registered by the leader's task is lost: the spawned task must poll again.
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert_eq!(follower.await, Some(Ok("done")));
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert!(fetches.is_empty());
}

#[tokio::test]
async fn a_panic_in_progress_reaches_the_followers() {
    let fetches = SingleFlight::new();
    let (go, gate) = oneshot::channel::<()>();
    let mut leader = fetches.join(&key(), || async move {
        let _ = gate.await;
        panic!("as in a bug")
    });
    let mut follower = fetches.join(&key(), || async { 1 });
    let (leader, follower, ()) = tokio::join!(leader.outcome(), follower.outcome(), async {
        go.send(()).unwrap();
    });
    assert_eq!((leader, follower), (None, None));
    assert!(fetches.is_empty());
}

#[tokio::test]
async fn a_panic_removes_the_key() {
    let fetches = SingleFlight::new();
    let mut role = fetches.join(&key(), || async { panic!("as in a bug") });
    assert_eq!(role.outcome().await, None::<u8>);
    let mut next = fetches.join(&key(), || async { 1 });
    assert_eq!(next.outcome().await, Some(1));
}

#[tokio::test]
async fn a_forgotten_fetch_is_not_joined_and_removes_no_later_one() {
    let fetches = SingleFlight::new();
    let (go, gate) = oneshot::channel::<()>();
    let mut first = fetches.join(&key(), || async move {
        let _ = gate.await;
        "first"
    });
    let mut follower = fetches.join(&key(), || async { "never" });
    fetches.forget(|_| false);
    assert_eq!(fetches.len(), 1);
    fetches.forget(|forgotten| *forgotten == key());
    let (go_on, later_gate) = oneshot::channel::<()>();
    let mut second = fetches.join(&key(), || async move {
        let _ = later_gate.await;
        "second"
    });
    assert!(second.is_leader());
    go.send(()).unwrap();
    assert_eq!(first.outcome().await, Some("first"));
    assert_eq!(follower.outcome().await, Some("first"));
    assert_eq!(fetches.len(), 1, "the second one is in progress");
    let mut joined = fetches.join(&key(), || async { "never" });
    go_on.send(()).unwrap();
    assert_eq!(second.outcome().await, Some("second"));
    assert_eq!(joined.outcome().await, Some("second"));
    assert!(fetches.is_empty());
}
