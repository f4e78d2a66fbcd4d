//! Controllers and queue against model nodes whose limits change, in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::controller::Room;
use super::node_controller::{NodeController, NodeRoom, NodeTicket};
use super::queue::{Offer, WaitQueue, WaiterId};

/// What a model node takes.
#[derive(Clone, Copy, Debug)]
enum Limit {
    AtOnce(usize),
    /// A token bucket of one second.
    Bucket(f64),
    /// Windows of one second.
    Window(f64),
    /// A token bucket for each access key.
    BucketPerKey(f64),
}

impl Limit {
    /// What the node takes a second, of one access key.
    fn per_second(self) -> f64 {
        match self {
            Self::AtOnce(limit) => limit as f64 / SERVICE.as_secs_f64(),
            Self::Bucket(rate) | Self::Window(rate) | Self::BucketPerKey(rate) => rate,
        }
    }
}

struct ModelNode {
    limit: Limit,
    in_flight: usize,
    tokens: [f64; KEYS],
    filled: Duration,
    controller: NodeController,
    /// Attempts in flight as the gateway sees them.
    sent: usize,
}

impl ModelNode {
    fn takes(&mut self, key: usize, now: Duration) -> bool {
        let elapsed = (now - self.filled).as_secs_f64();
        let lane = match self.limit {
            Limit::BucketPerKey(_) => key,
            _ => 0,
        };
        match self.limit {
            Limit::AtOnce(limit) => return self.in_flight < limit,
            Limit::Bucket(rate) | Limit::BucketPerKey(rate) => {
                for tokens in &mut self.tokens {
                    *tokens = (*tokens + elapsed * rate).min(rate);
                }
                self.filled = now;
            }
            Limit::Window(rate) => {
                if now.as_secs() > self.filled.as_secs() {
                    self.tokens = [rate; KEYS];
                    self.filled = now;
                }
            }
        }
        let has_token = self.tokens[lane] >= 1.0;
        if has_token {
            self.tokens[lane] -= 1.0;
        }
        has_token
    }
}

#[derive(Clone, Copy, Debug)]
struct Request {
    key: usize,
    arrived: Duration,
    /// Its place in the queue, once it has waited.
    id: Option<WaiterId>,
    /// The sum of its waits before the current one.
    waited: Duration,
    since: Duration,
    is_last_attempt: bool,
}

enum Event {
    Arrival(usize),
    End {
        request: usize,
        node: usize,
        ticket: NodeTicket,
        refused: bool,
    },
    GiveUp(usize, Duration),
    Recheck,
    Change(usize, Limit),
}

/// What callers saw, in the order of the requests' ends.
#[derive(Debug, Default)]
struct Outcome {
    ended: Vec<(Duration, usize, Duration, bool)>,
    /// Attempts that nodes refused.
    refused_attempts: usize,
}

impl Outcome {
    /// Served requests a second, and the share of callers that saw a refusal, between two times.
    fn between(&self, from: u64, to: u64) -> (f64, f64) {
        let within = |at: Duration| (from..to).contains(&at.as_secs());
        let all = self.ended.iter().filter(|end| within(end.0)).count();
        let seen = self
            .ended
            .iter()
            .filter(|end| within(end.0) && end.3)
            .count();
        (
            (all - seen) as f64 / (to - from) as f64,
            seen as f64 / all as f64,
        )
    }

    fn median_wait(&self, key: usize) -> Duration {
        let of_key = self.ended.iter().filter(|end| end.1 == key);
        let mut waits: Vec<_> = of_key.map(|end| end.2).collect();
        waits.sort();
        waits[waits.len() / 2]
    }

    fn longest_wait(&self) -> Duration {
        self.ended.iter().map(|end| end.2).max().unwrap()
    }
}

struct Simulation {
    /// How long a refusal takes.
    refusal: Duration,
    began: Instant,
    now: Duration,
    nodes: Vec<ModelNode>,
    queue: WaitQueue<usize>,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<(Duration, usize)>>,
    payloads: Vec<Option<Event>>,
    outcome: Outcome,
    random: StdRng,
    /// When the queue is looked at again without another event.
    recheck: Option<Duration>,
}

impl Simulation {
    fn new(limits: &[Limit]) -> Self {
        let began = tokio::time::Instant::now().into_std();
        let node = |limit: &Limit| ModelNode {
            limit: *limit,
            in_flight: 0,
            tokens: [limit.per_second(); KEYS],
            filled: Duration::ZERO,
            controller: NodeController::new(began),
            sent: 0,
        };
        Self {
            refusal: Duration::from_millis(2),
            began,
            now: Duration::ZERO,
            nodes: limits.iter().map(node).collect(),
            queue: WaitQueue::default(),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            payloads: Vec::new(),
            outcome: Outcome::default(),
            random: StdRng::seed_from_u64(7),
            recheck: None,
        }
    }

    /// Adds arrivals of one access key at random times with this mean rate.
    fn load(&mut self, key: usize, per_second: f64, from: u64, to: u64) {
        let mut at = from as f64;
        loop {
            at -= self.random.random::<f64>().max(1e-12).ln() / per_second;
            if at >= to as f64 {
                return;
            }
            let arrived = Duration::from_secs_f64(at);
            self.requests.push(Request {
                key,
                arrived,
                id: None,
                waited: Duration::ZERO,
                since: Duration::ZERO,
                is_last_attempt: false,
            });
            self.schedule(arrived, Event::Arrival(self.requests.len() - 1));
        }
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.payloads.push(Some(event));
        self.events.push(Reverse((at, self.payloads.len() - 1)));
    }

    fn run(&mut self) {
        while let Some(Reverse((at, payload))) = self.events.pop() {
            self.now = at;
            match self.payloads[payload].take().unwrap() {
                Event::Arrival(request) => {
                    let at_once = (self.queue.len() == 0)
                        .then(|| self.pick(request))
                        .flatten();
                    match at_once {
                        Some(node) => self.send(request, node),
                        None => self.wait(request),
                    }
                }
                Event::End {
                    request,
                    node,
                    ticket,
                    refused,
                } => self.end(request, node, ticket, refused),
                Event::GiveUp(request, since) => {
                    let Request { key, id, .. } = self.requests[request];
                    if let Some(id) = id
                        && self.requests[request].since == since
                        && self.queue.remove(key as u64, id)
                    {
                        self.last_attempt(request);
                    }
                }
                Event::Recheck => {
                    if self.recheck == Some(self.now) {
                        self.recheck = None;
                        self.dispatch();
                    }
                }
                Event::Change(node, limit) => {
                    self.nodes[node].limit = limit;
                    self.nodes[node].tokens = [0.0; KEYS];
                }
            }
        }
    }

    fn instant(&self) -> Instant {
        self.began + self.now
    }

    /// Picks the node with room that has the fewest in flight.
    fn pick(&mut self, request: usize) -> Option<usize> {
        let (now, key) = (self.instant(), self.requests[request].key as u64);
        let mut with_room = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if node.controller.room(key, node.sent, now) == NodeRoom::Open {
                with_room.push((node.sent, index));
            }
        }
        with_room.into_iter().min().map(|(_, index)| index)
    }

    fn wait(&mut self, request: usize) {
        let left = MAX_WAIT.saturating_sub(self.requests[request].waited);
        if left.is_zero() {
            return self.last_attempt(request);
        }
        let id = match self.requests[request].id {
            Some(id) => id,
            None => self.queue.new_id(),
        };
        let waiting = &mut self.requests[request];
        (waiting.id, waiting.since) = (Some(id), self.now);
        let key = waiting.key as u64;
        self.schedule(self.now + left, Event::GiveUp(request, self.now));
        if let Some(evicted) = self.queue.push(key, id, request, MAX_QUEUE) {
            self.last_attempt(evicted);
        }
        self.dispatch();
    }

    fn dispatch(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        let mut taken = Vec::new();
        queue.offer(|_, request| match self.pick(*request) {
            Some(node) => {
                self.send(*request, node);
                taken.push(*request);
                Offer::Taken
            }
            None => Offer::Unusable,
        });
        self.queue = queue;
        for request in taken {
            let waited = self.now - self.requests[request].since;
            self.requests[request].waited += waited;
        }
        if let Some((_, request)) = self.queue.head() {
            let (now, key) = (self.instant(), self.requests[*request].key as u64);
            let next = self.nodes.iter_mut().filter_map(|node| {
                match node.controller.room(key, node.sent, now) {
                    NodeRoom::Closed(Room::At(at)) | NodeRoom::ClosedForKey(Room::At(at)) => {
                        Some(at - self.began)
                    }
                    _ => None,
                }
            });
            // Timers are exact to a millisecond.
            let next = next.min().unwrap_or(self.now + Duration::from_millis(50));
            let next = next.max(self.now) + Duration::from_millis(1);
            if self.recheck.is_none_or(|at| next < at) {
                self.recheck = Some(next);
                self.schedule(next, Event::Recheck);
            }
        }
    }

    fn last_attempt(&mut self, request: usize) {
        let now = self.instant();
        let waited = self.now - self.requests[request].since;
        self.requests[request].waited += waited;
        self.requests[request].is_last_attempt = true;
        let key = self.requests[request].key as u64;
        let nodes = self.nodes.iter().enumerate();
        let most_room = nodes.min_by_key(|(_, node)| node.controller.excess(key, node.sent, now));
        self.send(request, most_room.unwrap().0);
    }

    fn send(&mut self, request: usize, index: usize) {
        let (instant, now) = (self.instant(), self.now);
        let key = self.requests[request].key;
        let jitter = self.random.random_range(0.8..1.2);
        let node = &mut self.nodes[index];
        let ticket = node.controller.admit(key as u64, node.sent, instant);
        node.sent += 1;
        let refused = !node.takes(key, now);
        node.in_flight += usize::from(!refused);
        let takes = if refused {
            self.refusal
        } else {
            SERVICE.mul_f64(jitter)
        };
        let end = Event::End {
            request,
            node: index,
            ticket,
            refused,
        };
        self.schedule(now + takes, end);
    }

    fn end(&mut self, request: usize, index: usize, ticket: NodeTicket, refused: bool) {
        let (now, key) = (self.instant(), self.requests[request].key);
        let node = &mut self.nodes[index];
        node.sent -= 1;
        node.controller.ended(key as u64, ticket);
        if refused {
            self.outcome.refused_attempts += 1;
            node.controller.refused(key as u64, ticket, now);
        } else {
            node.in_flight -= 1;
            node.controller.succeeded(key as u64, ticket, now);
        }
        let Request {
            is_last_attempt,
            waited,
            arrived,
            ..
        } = self.requests[request];
        if refused && !is_last_attempt {
            self.wait(request);
        } else {
            debug_assert!(arrived <= self.now);
            self.outcome.ended.push((self.now, key, waited, refused));
            self.dispatch();
        }
    }
}

/// Runs one node or more at a share of what they take, and returns the outcome.
fn offered(limits: &[Limit], share: f64, seconds: u64) -> (f64, Outcome) {
    let mut simulation = Simulation::new(limits);
    let total: f64 = limits.iter().map(|limit| limit.per_second()).sum();
    simulation.load(0, total * share, 0, seconds);
    simulation.run();
    (total, simulation.outcome)
}

#[test]
fn at_95_percent_of_what_nodes_take_callers_see_no_refusal() {
    for limits in [
        &[Limit::AtOnce(8)][..],
        &[Limit::Bucket(100.0)],
        &[Limit::Window(100.0)],
        &[Limit::AtOnce(2), Limit::AtOnce(4), Limit::AtOnce(8)],
        &[
            Limit::Bucket(20.0),
            Limit::Bucket(50.0),
            Limit::Bucket(100.0),
        ],
        &[
            Limit::Window(20.0),
            Limit::Window(50.0),
            Limit::Window(100.0),
        ],
        &[Limit::AtOnce(5), Limit::Bucket(50.0), Limit::Window(50.0)],
    ] {
        let (total, outcome) = offered(limits, 0.95, 120);
        let (served, seen) = outcome.between(10, 120);
        let share = served / (total * 0.95);
        println!(
            "{limits:?}: {share:.3} served, {seen:.4} seen, {} refused of {}",
            outcome.refused_attempts,
            outcome.ended.len()
        );
        assert!(share >= 0.95 && seen <= 0.01, "{limits:?}: {share} {seen}");
        assert!(outcome.longest_wait() <= MAX_WAIT + Duration::from_millis(1));
    }
}

#[test]
fn under_overload_nodes_are_used_to_95_percent() {
    for limits in [
        &[Limit::AtOnce(8)][..],
        &[Limit::Bucket(100.0)],
        &[Limit::Window(100.0)],
        &[Limit::AtOnce(2), Limit::Bucket(50.0), Limit::Window(50.0)],
    ] {
        for refusal in [2, 5] {
            let mut simulation = Simulation::new(limits);
            simulation.refusal = Duration::from_millis(refusal);
            let total: f64 = limits.iter().map(|limit| limit.per_second()).sum();
            simulation.load(0, total * 1.5, 0, 60);
            simulation.run();
            let (served, seen) = simulation.outcome.between(10, 60);
            let used = served / total;
            println!("{limits:?}, {refusal} ms: {used:.3} used, {seen:.3} seen");
            assert!(used >= 0.95, "{limits:?}, {refusal} ms: {used}");
        }
    }
}

#[test]
fn a_change_is_followed_within_ten_seconds() {
    for (before, after) in [
        (Limit::AtOnce(4), Limit::AtOnce(12)),
        (Limit::AtOnce(12), Limit::AtOnce(4)),
        (Limit::Bucket(50.0), Limit::Bucket(150.0)),
        (Limit::Bucket(150.0), Limit::Bucket(50.0)),
        (Limit::Window(50.0), Limit::Window(150.0)),
        (Limit::Window(150.0), Limit::Window(50.0)),
        (Limit::AtOnce(10), Limit::Window(50.0)),
        (Limit::Window(50.0), Limit::AtOnce(10)),
    ] {
        let mut simulation = Simulation::new(&[before]);
        simulation.schedule(Duration::from_secs(30), Event::Change(0, after));
        simulation.load(0, before.per_second() * 0.95, 0, 30);
        // The load follows at once; what the new limit does not take is seen for a while.
        simulation.load(0, after.per_second() * 0.95, 30, 90);
        simulation.run();
        let (served, seen) = simulation.outcome.between(40, 90);
        let share = served / (after.per_second() * 0.95);
        println!("{before:?} to {after:?}: {share:.3} served, {seen:.4} seen");
        assert!(
            share >= 0.95 && seen <= 0.01,
            "{before:?} to {after:?}: {share} {seen}"
        );
    }
}

#[test]
fn an_access_key_with_a_hundredth_of_the_load_waits_no_longer() {
    let median = |loads: [f64; 2], limit| {
        let mut simulation = Simulation::new(&[limit]);
        for (key, load) in loads.into_iter().enumerate() {
            simulation.load(key, load, 0, 120);
        }
        simulation.run();
        simulation.outcome.median_wait(1)
    };
    for limit in [
        Limit::AtOnce(10),
        Limit::Bucket(100.0),
        Limit::Window(100.0),
    ] {
        let equal = median([55.0, 55.0], limit);
        let small = median([110.0, 1.1], limit);
        println!("{limit:?}: {small:?} against {equal:?}");
        assert!(small <= equal * 2, "{limit:?}: {small:?} against {equal:?}");
    }
}

#[test]
fn a_limit_of_each_access_key_slows_no_other() {
    let mut simulation = Simulation::new(&[Limit::BucketPerKey(20.0)]);
    simulation.load(0, 60.0, 0, 60);
    simulation.load(1, 15.0, 0, 60);
    simulation.load(2, 60.0, 0, 60);
    simulation.run();
    let of_key = |key| {
        simulation
            .outcome
            .ended
            .iter()
            .filter(move |end| end.1 == key)
    };
    let refused = of_key(1).filter(|end| end.3).count();
    let slow = of_key(1)
        .filter(|end| end.2 > Duration::from_millis(100))
        .count();
    let all = of_key(1).count();
    println!("{refused} refused, {slow} slow of {all}");
    assert!(refused * 100 <= all && slow * 20 <= all);
    let served = of_key(0).filter(|end| !end.3).count();
    println!("{served} of the limited key");
    assert!(served as f64 >= 0.95 * 20.0 * 60.0);
}

const KEYS: usize = 4;
const SERVICE: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_millis(500);
const MAX_QUEUE: usize = 256;
