//! Timers for deadlines that are nearly never reached.
//!
//! A timer of the runtime costs a lock and a wheel operation when it is armed and again when it is dropped,
//! and one that is due sooner than all others wakes the runtime's driver by a system call. A [`TickTimer`]
//! only notes its task in a list of the thread, which one tick looks through twice a second while the list
//! has entries. A request that ends sooner has never touched the runtime's timers.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that a task resets and polls. The default one fires at once.
#[derive(Debug, Default)]
pub struct TickTimer {
    deadline: Option<Instant>,
    /// When a tick wakes the task: at the deadline, or well before it where the runtime's timer is to be exact.
    wake_at: Option<Instant>,
    /// Its place in the list of the thread on which it was polled first.
    entry: Option<Entry>,
    /// Armed once an exact deadline is near.
    exact: Option<Pin<Box<Sleep>>>,
}

impl TickTimer {
    /// Returns a timer that fires at `deadline`, as exactly as one of the runtime.
    pub fn at(deadline: Instant) -> Self {
        Self::look(deadline, deadline)
    }

    /// Returns a timer that fires at the first tick after `time`, but never after `deadline`.
    pub fn look(time: Instant, deadline: Instant) -> Self {
        let mut timer = Self::default();
        timer.reset_look(time, deadline);
        timer
    }

    /// Makes the timer fire at the first tick after `time`, but never after `deadline`.
    pub fn reset_look(&mut self, time: Instant, deadline: Instant) {
        *self = if deadline <= time + TICK {
            Self {
                deadline: Some(deadline),
                wake_at: deadline.checked_sub(2 * TICK),
                ..Self::default()
            }
        } else {
            Self {
                deadline: Some(time),
                wake_at: Some(time),
                ..Self::default()
            }
        };
    }
}

impl Future for TickTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(deadline) = this.deadline else {
            return Poll::Ready(());
        };
        if let Some(exact) = &mut this.exact {
            return exact.as_mut().poll(context);
        }
        if let Some(entry) = &this.entry
            && entry.renew(context.waker())
        {
            return Poll::Pending;
        }
        this.entry = None;
        let now = Instant::now();
        if now >= deadline {
            return Poll::Ready(());
        }
        match this.wake_at.filter(|&wake_at| wake_at > now) {
            Some(wake_at) => {
                this.entry = Some(Ticks::of_this_thread().enter(wake_at, context.waker()));
                Poll::Pending
            }
            None => {
                let exact = this.exact.insert(Box::pin(sleep_until(deadline)));
                exact.as_mut().poll(context)
            }
        }
    }
}

/// Waits for `future`, at most until the timer fires. A future that is ready at its first poll costs no timer.
///
/// # Errors
/// The timer has fired first.
pub async fn within<F: Future>(mut timer: TickTimer, future: F) -> Result<F::Output, TimedOut> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut timer).poll(context).map(|()| Err(TimedOut))
    })
    .await
}

/// A timer has fired before what it limits was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimedOut;

/// The time between two looks through a list of timers: short beside the second after which an attempt is
/// looked at first. Our choice.
const TICK: Duration = Duration::from_millis(500);

/// The timers of one thread.
#[derive(Clone, Debug, Default)]
struct Ticks(Arc<Mutex<TickList>>);

#[derive(Debug, Default)]
struct TickList {
    waiting: Slab<Waiting>,
    /// Whether the task that ticks runs.
    is_ticking: bool,
}

#[derive(Debug)]
struct Waiting {
    wake_at: Instant,
    /// `None` once it was woken.
    waker: Option<Waker>,
}

thread_local! {
    static TICKS: Ticks = Ticks::default();
}

impl Ticks {
    fn of_this_thread() -> Self {
        TICKS.with(Self::clone)
    }

    /// The lock is shared with another thread only if a timer moves, as in a runtime with several threads.
    fn lock(&self) -> MutexGuard<'_, TickList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self, wake_at: Instant, waker: &Waker) -> Entry {
        let mut list = self.lock();
        let index = list.waiting.insert(Waiting {
            wake_at,
            waker: Some(waker.clone()),
        });
        if !std::mem::replace(&mut list.is_ticking, true) {
            #[expect(
                clippy::disallowed_methods,
                reason = "one ticking task a thread; it ends at a tick without timers"
            )]
            tokio::spawn(Ticking(Some(self.clone())).run());
        }
        drop(list);
        Entry { ticks: self, index }
    }

    /// Wakes what is due; returns whether anything waits still.
    fn tick(&self, now: Instant) -> bool {
        let mut due = Vec::new();
        let mut list = self.lock();
        for (_, waiting) in &mut list.waiting {
            if waiting.wake_at <= now {
                due.extend(waiting.waker.take());
            }
        }
        let goes_on = !list.waiting.is_empty();
        list.is_ticking = goes_on;
        drop(list);
        due.into_iter().for_each(Waker::wake);
        goes_on
    }
}

/// The task that ticks. It ends at a tick without timers, or with its runtime.
struct Ticking(Option<Ticks>);

impl Ticking {
    async fn run(mut self) {
        while let Some(ticks) = &self.0 {
            tokio::time::sleep(TICK).await;
            if !ticks.tick(Instant::now()) {
                self.0 = None;
            }
        }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        if let Some(ticks) = &self.0 {
            ticks.lock().is_ticking = false;
        }
    }
}

/// A place in the list of a thread; dropping it leaves the list.
#[derive(Debug)]
struct Entry {
    ticks: Ticks,
    index: usize,
}

impl Entry {
    /// Notes the task's waker of now; returns false if the tick has woken the entry.
    fn renew(&self, waker: &Waker) -> bool {
        let mut list = self.ticks.lock();
        match list
            .waiting
            .get_mut(self.index)
            .and_then(|it| it.waker.as_mut())
        {
            Some(noted) => {
                noted.clone_from(waker);
                true
            }
            None => false,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ticks.lock().waiting.try_remove(self.index);
    }
}

#[cfg(test)]
mod tests;
