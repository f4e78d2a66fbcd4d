//! Hands places at nodes to the requests that wait for one.
//!
//! The queue has a head, the waiter whose turn is next: it alone looks for places, when an attempt has ended
//! or a rate allows the next one, for itself and for the others behind it. Whatever leaves the queue wakes
//! the new head, so that no place is lost with a client that has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::{Choice, Cluster, NodeGuard, NodeId};
use super::queue::{Offer, WaitQueue, WaiterId};
use super::{FlowClass, FlowRequest};

/// The waiting requests of a cluster, over reloads.
#[derive(Debug, Default)]
pub(in crate::cluster) struct WaitQueues {
    query: ClassQueue,
    download: ClassQueue,
}

#[derive(Debug, Default)]
struct ClassQueue {
    /// The length of `queue`.
    len: AtomicUsize,
    queue: Mutex<WaitQueue<Arc<WaiterState>>>,
}

impl WaitQueues {
    fn class(&self, class: FlowClass) -> &ClassQueue {
        match class {
            FlowClass::Download => &self.download,
            FlowClass::Query => &self.query,
        }
    }

    /// Returns how many requests wait.
    pub(in crate::cluster) fn len(&self) -> usize {
        let classes = FlowClass::ALL.map(|class| self.class(class).len());
        classes.iter().sum()
    }

    /// Whether a request of `class` waits.
    pub(in crate::cluster) fn has_waiters(&self, class: FlowClass) -> bool {
        self.class(class).len() > 0
    }

    /// Makes all waiters of an access key leave their queues.
    pub(in crate::cluster) fn revoke(&self, access_key: &str) {
        for class in FlowClass::ALL.map(|class| self.class(class)) {
            if class.len() == 0 {
                continue;
            }
            let mut queue = class.queue.lock();
            let revoked = queue.remove_all(|waiter| *waiter.access_key == *access_key);
            class.wake_head(&queue);
            drop(queue);
            for waiter in revoked {
                waiter.wake(Some(WaitEnd::Revoked));
            }
        }
    }

    /// Makes the head look for a place: one may have come free.
    pub(in crate::cluster) fn wake_head(&self, class: FlowClass) {
        let queue = self.class(class);
        if queue.len() > 0 {
            queue.wake_head(&queue.queue.lock());
        }
    }
}

impl ClassQueue {
    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn wake_head(&self, queue: &WaitQueue<Arc<WaiterState>>) {
        self.len.store(queue.len(), Ordering::Relaxed);
        if let Some((_, head)) = queue.head() {
            head.wake(None);
        }
    }
}

/// How a wait ended.
#[derive(Debug)]
pub enum WaitEnd {
    /// A node has room.
    Place(NodeGuard),
    /// The queue was full, and this request had to leave it.
    Evicted,
    /// The access key was disabled.
    Revoked,
}

/// A request that waits for a place. It leaves the queue when it is dropped.
#[derive(Debug)]
pub struct Waiter {
    state: Arc<WaiterState>,
    id: WaiterId,
}

#[derive(Debug)]
struct WaiterState {
    cluster: Arc<Cluster>,
    class: FlowClass,
    access_key: Arc<str>,
    key: u64,
    hash_key: u64,
    tried: Box<[NodeId]>,
    avoided: Box<[NodeId]>,
    signal: Mutex<Signal>,
}

#[derive(Debug, Default)]
struct Signal {
    end: Option<WaitEnd>,
    woken: bool,
    waker: Option<Waker>,
}

impl WaiterState {
    fn request(&self) -> FlowRequest<'_> {
        FlowRequest {
            class: self.class,
            access_key: Some(&self.access_key),
            beyond_bound: false,
        }
    }

    fn choice(&self, now: Instant) -> Choice<'_> {
        Choice {
            hash_key: self.hash_key,
            tried: &self.tried,
            avoided: &self.avoided,
            flow: Some(self.request()),
            now,
        }
    }

    fn wake(&self, end: Option<WaitEnd>) {
        let mut signal = self.signal.lock();
        signal.woken = true;
        if end.is_some() {
            signal.end = end;
        }
        if let Some(waker) = signal.waker.take() {
            waker.wake();
        }
    }
}

impl Waiter {
    /// Adds a request to the queue of its cluster. `choice` is what its node is chosen by. If the queue is
    /// full, the newest waiter of the access key with the most must leave it, which may be this one.
    pub fn enqueue(
        cluster: &Arc<Cluster>,
        choice: &Choice<'_>,
        access_key: Arc<str>,
    ) -> Option<Self> {
        let flow = choice.flow?;
        let state = Arc::new(WaiterState {
            cluster: cluster.clone(),
            class: flow.class,
            key: flow.key(),
            access_key,
            hash_key: choice.hash_key,
            tried: choice.tried.into(),
            avoided: choice.avoided.into(),
            signal: Mutex::default(),
        });
        let class = cluster.wait_queues.class(flow.class);
        let mut queue = class.queue.lock();
        let id = queue.new_id();
        let limit = cluster.settings.flow_control.max_queue;
        let evicted = queue.push(state.key, id, state.clone(), limit);
        class.len.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        if let Some(evicted) = evicted {
            evicted.wake(Some(WaitEnd::Evicted));
        }
        Some(Self { state, id })
    }

    /// Looks for places for the waiters of the queue. Returns when to look again at the latest, if this
    /// waiter is to do it: it is the head.
    pub fn look_for_places(&self, now: Instant) -> Option<Instant> {
        let class = self.queue();
        let mut queue = class.queue.lock();
        queue.offer(|_, waiter| {
            let picked = waiter.cluster.pick_for_retry(waiter.choice(now));
            match picked {
                Some(place) => {
                    waiter.wake(Some(WaitEnd::Place(place)));
                    Offer::Taken
                }
                None if waiter.cluster.is_closed_for_all(&waiter.choice(now)) => Offer::NoRoom,
                None => Offer::Unusable,
            }
        });
        class.len.store(queue.len(), Ordering::Relaxed);
        let (id, head) = queue.head()?;
        if id != self.id {
            head.wake(None);
            return None;
        }
        let next = head.cluster.next_room(&head.choice(now));
        Some(next.unwrap_or(now + LOOK_INTERVAL).min(now + LOOK_INTERVAL))
    }

    /// Returns how the wait ended, or that the waiter was woken to look for places. Otherwise `waker` is
    /// called as soon as one of these happens.
    pub fn poll(&self, waker: &Waker) -> Poll<Option<WaitEnd>> {
        let mut signal = self.state.signal.lock();
        if let Some(end) = signal.end.take() {
            return Poll::Ready(Some(end));
        }
        if std::mem::take(&mut signal.woken) {
            return Poll::Ready(None);
        }
        signal.waker = Some(waker.clone());
        Poll::Pending
    }

    fn queue(&self) -> &ClassQueue {
        self.state.cluster.wait_queues.class(self.state.class)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let class = self.queue();
        let mut queue = class.queue.lock();
        queue.remove(self.state.key, self.id);
        class.wake_head(&queue);
        drop(queue);
        // A place that was handed over but not taken goes to the next one, as its guard is dropped.
        let unused = self.state.signal.lock().end.take();
        drop(unused);
    }
}

/// How often the head looks for places without a signal: what a node takes grows with time, and nodes
/// return.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
