use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::*;

fn key() -> CacheKey {
    CacheKey::for_test("ak", "{}")
}

#[tokio::test]
async fn a_hundred_comers_make_one_fetch() {
    let flights = SingleFlight::new();
    let started = Arc::new(AtomicUsize::new(0));
    let (go, gate) = oneshot::channel::<()>();
    let mut gate = Some(gate);
    let seats: Vec<_> = (0..100)
        .map(|_| {
            flights.join(&key(), || {
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
    assert_eq!(seats.iter().filter(|seat| seat.is_leader()).count(), 1);
    go.send(()).unwrap();
    for mut seat in seats {
        assert_eq!(seat.outcome().await, Some(7));
    }
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert!(flights.is_empty(), "freed before anybody saw the outcome");
}

#[tokio::test]
async fn the_fetch_survives_whoever_started_it() {
    let flights = SingleFlight::new();
    let (go, gate) = oneshot::channel::<()>();
    let first = flights.join(&key(), || async move {
        let _ = gate.await;
        "done"
    });
    let mut second = flights.join(&key(), || async { "never" });
    drop(first);
    go.send(()).unwrap();
    assert_eq!(second.outcome().await, Some("done"));
}

#[tokio::test]
async fn a_fetch_that_is_half_flown_goes_on_and_wakes_its_passengers() {
    let flights = SingleFlight::new();
    let started = Arc::new(AtomicUsize::new(0));
    let (go, gate) = oneshot::channel::<()>();
    let (fetch, times) = (async { gate.await.map(|()| "done") }, started.clone());
    let mut pilot = flights.join(&key(), || async move {
        times.fetch_add(1, Ordering::Relaxed);
        fetch.await
    });
    let mut pilot = Box::pin(async move { pilot.outcome().await });
    let mut passenger = flights.join(&key(), || async { Ok("never") });
    let mut passenger = Box::pin(passenger.outcome());
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(pilot.as_mut().poll(&mut context).is_pending());
    assert!(passenger.as_mut().poll(&mut context).is_pending());
    drop(pilot);
    // What the pilot's own task was promised wakes nobody any more: the new task must ask anew.
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert_eq!(passenger.await, Some(Ok("done")));
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_panic_under_way_tells_those_who_wait() {
    let flights = SingleFlight::new();
    let (go, gate) = oneshot::channel::<()>();
    let mut pilot = flights.join(&key(), || async move {
        let _ = gate.await;
        panic!("as in a bug")
    });
    let mut passenger = flights.join(&key(), || async { 1 });
    let (pilot, passenger, ()) = tokio::join!(pilot.outcome(), passenger.outcome(), async {
        go.send(()).unwrap();
    });
    assert_eq!((pilot, passenger), (None, None));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_panic_frees_the_key_and_tells_the_waiting() {
    let flights = SingleFlight::new();
    let mut seat = flights.join(&key(), || async { panic!("as in a bug") });
    assert_eq!(seat.outcome().await, None::<u8>);
    let mut next = flights.join(&key(), || async { 1 });
    assert_eq!(next.outcome().await, Some(1));
}
