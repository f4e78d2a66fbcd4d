use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use tokio::task::JoinSet;

use super::*;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns how much later than `deadline` after now a timer fires for which `of` gives the look.
async fn lateness(deadline: u64, of: impl FnOnce(Instant) -> TickTimer) -> Duration {
    let start = Instant::now();
    of(start).await;
    let late = start.elapsed().checked_sub(millis(deadline));
    late.unwrap_or_else(|| panic!("the timer of {deadline} ms fired early"))
}

/// Runs all of them concurrently.
async fn maximum<F>(all: impl IntoIterator<Item = F>) -> Duration
where
    F: Future<Output = Duration> + Send + 'static,
{
    let all: JoinSet<_> = all.into_iter().collect();
    all.join_all().await.into_iter().max().unwrap()
}

#[tokio::test]
async fn a_deadline_near_or_far_is_kept_exactly() {
    // A tick is 500 ms: one that waited for it would be 400 ms late. A busy machine may be late once.
    for attempt in 1.. {
        let all = [1, 100, 600, 1_100, 1_600].map(|deadline| {
            lateness(deadline, move |start| {
                TickTimer::at(start + millis(deadline))
            })
        });
        let late = maximum(all).await;
        if late < millis(250) {
            break;
        }
        assert!(attempt < 5, "{late:?}");
    }
}

#[tokio::test]
async fn a_look_comes_after_its_time_and_never_after_the_deadline() {
    for attempt in 1.. {
        let looks = (0..1_500).step_by(150).map(|time| {
            lateness(time, move |start| {
                TickTimer::look(start + millis(time), start + millis(60_000))
            })
        });
        let due = [1_000, 1_100].map(|deadline| {
            lateness(deadline, move |start| {
                TickTimer::look(start + millis(800), start + millis(deadline))
            })
        });
        let (look, due) = tokio::join!(maximum(looks), maximum(due));
        if look < TICK + millis(250) && due < millis(250) {
            break;
        }
        assert!(attempt < 5, "{look:?} {due:?}");
    }
}

#[tokio::test]
async fn a_timer_that_was_reset_fires_at_its_last_deadline() {
    let start = Instant::now();
    let mut timer = TickTimer::at(start + millis(10));
    for deadline in [10_000, 70, 20_000, 700] {
        timer.reset_look(start + millis(deadline), start + millis(deadline));
        poll_once(&mut timer, Waker::noop());
    }
    timer.await;
    let elapsed = start.elapsed();
    assert!(
        (millis(700)..millis(9_000)).contains(&elapsed),
        "{elapsed:?}"
    );
}

#[tokio::test]
async fn what_is_ready_wins_over_a_timer_that_has_fired() {
    let past = Instant::now();
    assert_eq!(within(TickTimer::at(past), ready(1)).await, Ok(1));
    let never = pending::<()>();
    assert_eq!(within(TickTimer::at(past), never).await, Err(TimedOut));
    let soon = tokio::time::sleep(millis(600));
    let timer = TickTimer::at(past + millis(10_000));
    assert_eq!(within(timer, soon).await, Ok(()));
}

#[tokio::test]
async fn timers_that_are_dropped_leave_the_list_and_the_ticks_end() {
    let far = Instant::now() + millis(60_000);
    let timers: Vec<_> = (0..1000)
        .map(|_| {
            let mut timer = TickTimer::at(far);
            poll_once(&mut timer, Waker::noop());
            timer
        })
        .collect();
    let list = || {
        let ticks = Ticks::of_this_thread();
        let list = ticks.lock();
        (list.waiting.len(), list.is_ticking)
    };
    assert_eq!(list(), (1000, true));
    drop(timers);
    assert_eq!(list(), (0, true));
    while list().1 {
        tokio::time::sleep(millis(10)).await;
    }
    // The next timer starts them again.
    TickTimer::look(Instant::now() + millis(1), far).await;
}

#[tokio::test]
async fn a_tick_wakes_only_what_is_due_and_the_task_that_polled_last() {
    let (ticks, now) = (Ticks::of_this_thread(), Instant::now());
    let wakers: [_; 3] = std::array::from_fn(|_| Arc::new(Wakes::default()));
    let mut soon = TickTimer::look(now + millis(400), now + millis(60_000));
    poll_once(&mut soon, &wakers[0].clone().into());
    poll_once(&mut soon, &wakers[1].clone().into());
    let mut late = TickTimer::look(now + millis(1_400), now + millis(60_000));
    poll_once(&mut late, &wakers[2].clone().into());
    ticks.tick(now + millis(399));
    ticks.tick(now + millis(400));
    ticks.tick(now + millis(900));
    let counts = wakers.each_ref().map(|it| it.0.load(Ordering::Relaxed));
    assert_eq!(counts, [0, 1, 0]);
}

#[test]
fn a_runtime_that_ends_takes_its_ticks_with_it() {
    for _ in 0..2 {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(async {
            let (start, far) = (Instant::now(), Instant::now() + millis(60_000));
            TickTimer::look(start + millis(1), far).await;
            poll_once(&mut TickTimer::at(far), Waker::noop());
        });
    }
}

#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll_once(timer: &mut TickTimer, waker: &Waker) {
    let polled = Pin::new(timer).poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending());
}
