//! The controller: what one node takes of one class, learned from its refusals. Pure: times are
//! parameters.
//!
//! ```text
//!          refusal, more in flight than any success of the last 2 s: in flight <- that - 1
//!          other refusal: per second <- 0.9 of the successes of the last second
//!   free ------------------------------------------------------------------------------> bound
//!     ^                                                                                  |  ^
//!     +--- 60 s in which the bound held nothing back ------------------------------------+  |
//!                                 a second in which it did, without a refusal: it grows ----+
//! ```

use std::time::{Duration, Instant};

use super::history::SuccessHistory;

/// The learned bounds of one node and class, or of one access key there.
#[derive(Clone, Debug)]
pub(super) struct Controller {
    in_flight: Option<InFlightBound>,
    rate: Option<RateBound>,
    history: SuccessHistory,
    /// Nothing is sent before this: a refusal that nothing explains yet.
    paused_until: Option<Instant>,
    /// The length of the next pause.
    pause: Duration,
    /// Counts the tightenings. Refusals of attempts sent before the last one say nothing about it.
    generation: u32,
    last_refusal: Instant,
    second: Second,
    caution: Caution,
}

/// How a refusal is taken that too much in flight does not explain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Caution {
    /// As the node's limit a second.
    Immediate,
    /// As such only if it is not the first within a second: a refusal of an access key while others
    /// succeed may still be the node's own limit, and a bound would be far too low for a key that
    /// rarely asks.
    Repeated,
}

/// Whether an attempt may be sent now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Room {
    /// Yes.
    Open,
    /// Not before this.
    At(Instant),
    /// Not before another attempt ends.
    Full,
}

/// What the controller must know about an attempt when it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    generation: u32,
    /// Attempts in flight with it.
    in_flight: u32,
    /// Whether it was sent although there was no room, so that its refusal was to be expected.
    over_bound: bool,
}

#[derive(Clone, Copy, Debug)]
struct InFlightBound {
    limit: usize,
    step: usize,
    last_binding: Instant,
}

#[derive(Clone, Copy, Debug)]
struct RateBound {
    per_second: f64,
    step: f64,
    next: Instant,
    last_binding: Instant,
}

/// What happened since the last growth or tightening.
#[derive(Clone, Copy, Debug)]
struct Second {
    began: Instant,
    refused: bool,
    held_in_flight: bool,
    held_rate: bool,
}

impl Second {
    fn new(began: Instant) -> Self {
        Self {
            began,
            refused: false,
            held_in_flight: false,
            held_rate: false,
        }
    }
}

impl Ticket {
    /// The ticket of an attempt that was sent while nothing was learned.
    pub(super) fn free(in_flight: usize) -> Self {
        Self {
            generation: 0,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            over_bound: false,
        }
    }

    fn in_flight(self) -> usize {
        self.in_flight as usize
    }

    /// Whether a refusal of the attempt was to be expected.
    pub(super) fn is_over_bound(self) -> bool {
        self.over_bound
    }
}

impl Controller {
    /// Starts without a bound. Attempts with [`Ticket::free`] count as sent after the start.
    pub(super) fn new(now: Instant, caution: Caution) -> Self {
        Self {
            in_flight: None,
            rate: None,
            history: SuccessHistory::new(now),
            paused_until: None,
            pause: MIN_PAUSE,
            generation: 0,
            last_refusal: now,
            second: Second::new(now),
            caution,
        }
    }

    /// Returns whether an attempt may be sent while `in_flight` others are, and notes that a bound held
    /// it back if not.
    pub(super) fn room(&mut self, in_flight: usize, now: Instant) -> Room {
        self.advance(now);
        if let Some(bound) = self.in_flight.as_mut().filter(|it| in_flight >= it.limit) {
            bound.last_binding = now;
            self.second.held_in_flight = true;
            return Room::Full;
        }
        if let Some(until) = self.paused_until {
            if now < until {
                return Room::At(until);
            }
            self.paused_until = None;
        }
        match self.rate.as_mut().filter(|rate| now < rate.next) {
            Some(rate) => {
                rate.last_binding = now;
                self.second.held_rate = true;
                Room::At(rate.next)
            }
            None => Room::Open,
        }
    }

    /// Records that an attempt is sent while `in_flight` others are.
    pub(super) fn admit(&mut self, in_flight: usize, now: Instant) -> Ticket {
        let over_bound = self.room(in_flight, now) != Room::Open;
        if let Some(rate) = &mut self.rate
            && !over_bound
        {
            let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
            rate.next = rate.next.max(earliest) + interval(rate.per_second);
        }
        Ticket {
            generation: self.generation,
            over_bound,
            ..Ticket::free(in_flight + 1)
        }
    }

    /// Records that the node did what an attempt asked for.
    pub(super) fn succeeded(&mut self, ticket: Ticket, now: Instant) {
        self.advance(now);
        // Of an attempt beside others that were refused meanwhile, or beyond the bound, it is not known how
        // many the node had at once.
        let in_flight = if self.is_expected(ticket) {
            0
        } else {
            ticket.in_flight()
        };
        self.history.record(in_flight, now);
        self.pause = MIN_PAUSE;
    }

    /// Whether more attempts in flight than any that succeeded lately explain a refusal.
    pub(super) fn explains_in_flight(&mut self, ticket: Ticket, now: Instant) -> bool {
        ticket.in_flight > 1 && ticket.in_flight() > self.history.most_in_flight(now)
    }

    /// Whether a refusal says nothing new: the bound was tightened since the attempt was sent, or it was
    /// sent beyond the bound.
    pub(super) fn is_expected(&self, ticket: Ticket) -> bool {
        ticket.over_bound || ticket.generation != self.generation
    }

    /// Records a refusal for flow control.
    pub(super) fn refused(&mut self, ticket: Ticket, now: Instant) {
        self.advance(now);
        let is_repeated = now.saturating_duration_since(self.last_refusal) < SECOND;
        if ticket.over_bound {
            return;
        }
        self.second.refused = true;
        if ticket.generation != self.generation {
            self.last_refusal = now;
            return;
        }
        if self.explains_in_flight(ticket, now) {
            self.in_flight = Some(InFlightBound {
                limit: ticket.in_flight() - 1,
                step: 1,
                last_binding: now,
            });
        } else {
            let successes = self.history.per_second(now);
            let may_bind = self.caution == Caution::Immediate || is_repeated;
            match successes.filter(|_| may_bind) {
                Some(successes) => self.set_rate(successes, now),
                None => self.start_pause(now),
            }
        }
        self.tightened(now);
    }

    /// Holds everything back for a moment after a refusal of which only the time is known.
    pub(super) fn pause(&mut self, now: Instant) {
        self.start_pause(now);
        self.tightened(now);
    }

    /// Whether nothing is bound, and nothing was refused for a while.
    pub(super) fn is_free(&mut self, now: Instant) -> bool {
        self.advance(now);
        self.in_flight.is_none()
            && self.rate.is_none()
            && now.saturating_duration_since(self.last_refusal) >= FREE_AFTER
    }

    /// Returns the bounds: attempts in flight, and attempts a second.
    pub(super) fn bounds(&self) -> (Option<usize>, Option<f64>) {
        (
            self.in_flight.map(|bound| bound.limit),
            self.rate.map(|rate| rate.per_second),
        )
    }

    /// Returns how far the node is from having room: attempts over the bound in flight, then the time
    /// until the rate allows one.
    pub(super) fn excess(&self, in_flight: usize, now: Instant) -> (usize, Duration) {
        let over = self
            .in_flight
            .map_or(0, |bound| (in_flight + 1).saturating_sub(bound.limit));
        let next = self.rate.map(|rate| rate.next).max(self.paused_until);
        let wait = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        (over, wait)
    }

    fn start_pause(&mut self, now: Instant) {
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }

    fn set_rate(&mut self, successes: f64, now: Instant) {
        let per_second = (successes * RATE_AFTER_REFUSAL).max(MIN_RATE);
        self.rate = Some(RateBound {
            per_second,
            step: rate_step(per_second),
            next: now + interval(per_second),
            last_binding: now,
        });
    }

    fn tightened(&mut self, now: Instant) {
        self.generation = self.generation.wrapping_add(1);
        self.last_refusal = now;
        self.second = Second {
            refused: true,
            ..Second::new(now)
        };
    }

    /// Lets bounds grow at the end of each second, and drops those that have not been binding for long.
    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.second.began);
        if elapsed < SECOND {
            return;
        }
        self.grow();
        // Nothing happened in the other seconds that have passed.
        for _ in 1..elapsed.as_secs().min(MAX_QUIET_SECONDS) {
            self.second = Second::new(self.second.began);
            self.grow();
        }
        self.second = Second::new(self.second.began + Duration::from_secs(elapsed.as_secs()));
        let is_binding = |since: Instant| now.saturating_duration_since(since) < FREE_AFTER;
        self.in_flight = self
            .in_flight
            .filter(|bound| is_binding(bound.last_binding));
        self.rate = self.rate.filter(|rate| is_binding(rate.last_binding));
    }

    /// Ends a second.
    fn grow(&mut self) {
        let second = self.second;
        if second.refused {
            return;
        }
        if let Some(bound) = &mut self.in_flight {
            if second.held_in_flight {
                bound.limit = bound.limit.saturating_add(bound.step);
                bound.step = bound.step.saturating_mul(2);
            } else {
                bound.step = (bound.step / 2).max(1);
            }
        }
        if let Some(rate) = &mut self.rate {
            if second.held_rate {
                rate.per_second += rate.step;
                rate.step *= 2.0;
            } else {
                rate.step = (rate.step / 2.0).max(rate_step(rate.per_second));
            }
        }
    }
}

fn interval(per_second: f64) -> Duration {
    Duration::from_secs_f64(1.0 / per_second.max(MIN_RATE))
}

/// Returns the first step in which a rate grows: small enough that a rate a little below the node's loses
/// little while it grows past it.
fn rate_step(per_second: f64) -> f64 {
    (per_second * RATE_STEP).max(MIN_RATE)
}

const SECOND: Duration = Duration::from_secs(1);

/// A bound that has held nothing back for this long is dropped.
const FREE_AFTER: Duration = Duration::from_secs(60);

/// The share of the successes of a second that a node is expected to take in the next one.
const RATE_AFTER_REFUSAL: f64 = 0.9;

/// Attempts a second at the least, so that the end of a limit is noticed; also the smallest step.
const MIN_RATE: f64 = 0.5;

/// The first step as a share of the rate: from 0.9 of a node's rate to all of it in three seconds.
const RATE_STEP: f64 = 0.02;

/// How late an attempt may be without losing its place in an even sequence: more than the millisecond to
/// which timers are exact, and less than a burst.
const CATCH_UP: Duration = Duration::from_millis(20);

/// How long nothing is sent after a refusal that cannot be explained yet; twice as long after each further
/// one without a success between them.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(400);

/// Steps are at their smallest after this many seconds without growth.
const MAX_QUIET_SECONDS: u64 = 64;

#[cfg(test)]
mod tests;
