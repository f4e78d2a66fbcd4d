use proptest::prelude::*;

use super::*;

/// A controller with its clock in milliseconds.
struct Clock {
    controller: Controller,
    began: Instant,
}

impl Clock {
    fn new() -> Self {
        let began = tokio::time::Instant::now().into_std();
        Self {
            controller: Controller::new(began, Caution::Immediate),
            began,
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.began + Duration::from_millis(millis)
    }

    fn admit(&mut self, in_flight: usize, millis: u64) -> Ticket {
        let now = self.at(millis);
        self.controller.admit(in_flight, now)
    }

    /// An attempt that succeeds at once.
    fn succeeds(&mut self, in_flight: usize, millis: u64) {
        let ticket = self.admit(in_flight, millis);
        let now = self.at(millis);
        self.controller.succeeded(ticket, now);
    }

    /// An attempt that is refused at once.
    fn is_refused(&mut self, in_flight: usize, millis: u64) {
        let ticket = self.admit(in_flight, millis);
        let now = self.at(millis);
        self.controller.refused(ticket, now);
    }

    fn room(&mut self, in_flight: usize, millis: u64) -> Room {
        let now = self.at(millis);
        self.controller.room(in_flight, now)
    }
}

#[test]
fn more_in_flight_than_ever_succeeded_explains_a_refusal() {
    let mut clock = Clock::new();
    clock.succeeds(3, 0);
    clock.is_refused(5, 100);
    assert_eq!(clock.controller.bounds(), (Some(5), None));
    assert_eq!(clock.room(4, 101), Room::Open);
    assert_eq!(clock.room(5, 101), Room::Full);
}

#[test]
fn a_refusal_of_an_attempt_sent_before_the_last_tightening_is_ignored() {
    let mut clock = Clock::new();
    let early: Vec<_> = (0..9).map(|in_flight| clock.admit(in_flight, 0)).collect();
    for ticket in early.into_iter().rev() {
        let now = clock.at(10);
        clock.controller.refused(ticket, now);
    }
    assert_eq!(clock.controller.bounds(), (Some(8), None));
}

#[test]
fn another_refusal_sets_the_rate_to_nine_tenths_of_the_successes() {
    let mut clock = Clock::new();
    for ten in 0..200 {
        clock.succeeds(0, ten * 10);
    }
    clock.is_refused(0, 2000);
    let (in_flight, rate) = clock.controller.bounds();
    let rate = rate.unwrap();
    assert!(
        in_flight.is_none() && (88.0..=92.0).contains(&rate),
        "{rate}"
    );
    let Room::At(next) = clock.room(0, 2001) else {
        panic!("there is room at once");
    };
    let wait = next - clock.at(2000);
    assert!((10..=12).contains(&wait.as_millis()), "{wait:?}");
}

#[test]
fn a_refusal_in_the_first_second_pauses_only() {
    let mut clock = Clock::new();
    clock.succeeds(0, 0);
    clock.is_refused(0, 10);
    assert_eq!(clock.controller.bounds(), (None, None));
    assert_eq!(clock.room(0, 59), Room::At(clock.at(60)));
    assert_eq!(clock.room(0, 60), Room::Open);
}

#[test]
fn a_node_that_refuses_everything_is_asked_every_other_second() {
    let mut clock = Clock::new();
    clock.succeeds(0, 0);
    clock.is_refused(0, 3000);
    assert_eq!(clock.controller.bounds(), (None, Some(0.5)));
    assert_eq!(clock.room(0, 4999), Room::At(clock.at(5000)));
}

#[test]
fn bounds_grow_by_steps_that_double_while_they_hold_something_back() {
    let mut clock = Clock::new();
    clock.is_refused(4, 0);
    let mut limits = Vec::new();
    for second in 0..5 {
        clock.room(100, second * 1000 + 500);
        clock.room(0, (second + 1) * 1000);
        limits.push(clock.controller.bounds().0.unwrap());
    }
    // The second of the refusal does not count.
    assert_eq!(limits, [4, 5, 7, 11, 19]);
    for second in 5..8 {
        clock.room(0, second * 1000 + 999);
    }
    assert_eq!(
        clock.controller.bounds().0,
        Some(19),
        "nothing was held back"
    );
}

#[test]
fn a_bound_that_holds_nothing_back_is_dropped_after_a_minute() {
    let mut clock = Clock::new();
    clock.is_refused(4, 0);
    assert_eq!(clock.room(5, 30_000), Room::Full);
    assert_eq!(clock.room(0, 89_000), Room::Open);
    assert_eq!(clock.controller.bounds().0, Some(5));
    assert!(
        !clock
            .controller
            .is_free(clock.began + Duration::from_secs(89))
    );
    assert!(
        clock
            .controller
            .is_free(clock.began + Duration::from_secs(91))
    );
}

#[test]
fn an_attempt_beyond_the_bound_teaches_no_refusal() {
    let mut clock = Clock::new();
    clock.is_refused(4, 0);
    let before = clock.controller.bounds();
    clock.is_refused(7, 10);
    clock.is_refused(4, 10);
    assert_eq!(clock.controller.bounds(), before);
}

#[test]
fn a_late_attempt_does_not_lose_its_place() {
    let mut clock = Clock::new();
    for ten in 0..200 {
        clock.succeeds(0, ten * 10);
    }
    clock.is_refused(0, 2000);
    // Asked every 3 ms, 90 a second are reached although 11.1 ms is no multiple of it.
    let admitted = (0..900 / 3).filter(|turn| {
        let at = 2000 + turn * 3;
        let room = clock.room(0, at) == Room::Open;
        if room {
            clock.admit(0, at);
        }
        room
    });
    let admitted = admitted.count();
    assert!((79..=82).contains(&admitted), "{admitted} in 0.9 s");
}

proptest! {
    /// Whatever happens, there is always room for one attempt in flight within two seconds, and never room
    /// beyond the bound.
    #[test]
    fn no_sequence_of_events_closes_a_node(
        events in prop::collection::vec((0usize..6, 0usize..12, 0u64..700), 1..200)
    ) {
        let mut clock = Clock::new();
        let (mut now, mut tickets) = (0, Vec::new());
        for (kind, number, wait) in events {
            now += wait;
            match kind {
                0 | 1 => {
                    let room = clock.room(number, now);
                    let limit = clock.controller.bounds().0;
                    prop_assert!(room != Room::Open || limit.is_none_or(|limit| number < limit));
                    tickets.push(clock.admit(number, now));
                }
                2 | 3 if !tickets.is_empty() => {
                    let ticket = tickets.swap_remove(number % tickets.len());
                    let at = clock.at(now);
                    clock.controller.refused(ticket, at);
                }
                4 if !tickets.is_empty() => {
                    let ticket = tickets.swap_remove(number % tickets.len());
                    let at = clock.at(now);
                    clock.controller.succeeded(ticket, at);
                }
                _ => {}
            }
            let (limit, rate) = clock.controller.bounds();
            prop_assert!(limit.is_none_or(|limit| limit >= 1));
            prop_assert!(rate.is_none_or(|rate| rate >= MIN_RATE && rate.is_finite()));
        }
        prop_assert_eq!(clock.room(0, now + 2100), Room::Open);
        let end = clock.at(now + 200_000);
        prop_assert!(clock.controller.is_free(end));
    }
}
