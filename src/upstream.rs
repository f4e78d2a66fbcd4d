//! Delivers: picks a node, signs for it, tries, judges, and tries another within deadline and budget.
//!
//! What may be tried again, and when:
//!
//! | what happened | another node |
//! |---|---|
//! | no connection, or nothing was sent | any request |
//! | sent, then no answer, a cut or a senseless one | a repeatable request |
//! | 502, 503, 504, or a result code that means a broken node | a repeatable request |
//! | flow control: nothing was done | any request |
//!
//! No node is tried twice. A node that is plainly gone costs no budget; all other repetitions do.
//! When no node is left the last answer is passed on, if there was one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::cluster::{Change, Cluster, Fault, Node, Outcome, Pick};
use crate::message::{Cause, Delivery, Failure, StreamReply, WholeReply};
use crate::metrics::{Retry, RetryBudget, Shard};
use crate::telemetry::Spans;

mod attempt;
mod attempt_telemetry;
mod connect;
mod dns;
mod request;
mod response;
mod response_body;
mod retry;

pub(crate) use request::is_conditional;
mod failure_reason;
mod health_check;
mod pool;

pub use health_check::watch_cluster;

use attempt::{Progress, Trouble};
use attempt_telemetry::Counted;
use failure_reason::Why;
use pool::Pool;
use response::{Answer, AnswerBody, Judgement};
use retry::Course;

/// One worker's way to all nodes: its own connections, no lock shared with other workers on the way.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    metrics: Arc<Shard>,
    spans: Option<Arc<Spans>>,
    pool: Arc<Pool>,
}

/// What holds for all deliveries.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamSettings {
    /// The largest JSON answer.
    pub max_answer: usize,
    /// Bytes a second, from a node that streams.
    pub min_receive_rate: u64,
}

impl Upstream {
    /// An upstream without connections yet. `spans` takes a span for each try of a recorded trace.
    pub fn new(settings: UpstreamSettings, metrics: Arc<Shard>, spans: Option<Arc<Spans>>) -> Self {
        Self {
            settings,
            metrics,
            spans,
            pool: Arc::default(),
        }
    }

    /// Delivers and reads the JSON answer whole. `last_try` bounds everything: the per-try deadline
    /// ends a try only while another node is left.
    ///
    /// Dropped, it releases everything, and no node is blamed.
    pub async fn whole(
        &self,
        delivery: &Delivery,
        last_try: Duration,
    ) -> Result<WholeReply, Failure> {
        let mut course = Course::new(delivery, last_try);
        let answer = self.deliver(&mut course, Reading::Whole).await?;
        let trail = course.trail();
        match answer.body {
            AnswerBody::Whole(body) => Ok(WholeReply {
                status: answer.status,
                headers: answer.headers,
                body,
                json: answer.json,
                trail,
            }),
            // Not made by `Reading::Whole`; were it, it would be too large.
            AnswerBody::Flowing(_) => Err(Failure {
                cause: Cause::Garbage,
                sent: true,
                trail,
            }),
        }
    }

    /// Delivers and hands the answer on as it comes. `last_try` ends at the first body byte.
    ///
    /// Dropped, it releases everything, and no node is blamed; so does the answer's body.
    pub async fn stream(
        &self,
        delivery: &Delivery,
        last_try: Duration,
    ) -> Result<StreamReply, Failure> {
        let mut course = Course::new(delivery, last_try);
        let answer = self.deliver(&mut course, Reading::Stream).await?;
        let body = match answer.body {
            AnswerBody::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
            AnswerBody::Flowing(body) => body.boxed(),
        };
        Ok(StreamReply {
            status: answer.status,
            headers: answer.headers,
            body,
            trail: course.trail(),
        })
    }

    async fn deliver(&self, course: &mut Course<'_>, reading: Reading) -> Result<Answer, Failure> {
        let cluster = &course.delivery.cluster;
        cluster.budget().deposit(course.started.into_std());
        let mut timer = std::pin::pin!(sleep_until(course.end));
        while let Some(pick) = course.pick() {
            match self.run(course, pick, reading, timer.as_mut()).await {
                Ok(answer) => {
                    let may_repeat = match answer.judgement {
                        Judgement::Busy => true,
                        Judgement::Final => false,
                        Judgement::Unable => course.is_repeatable(),
                    };
                    if !may_repeat || !course.has_another() || !self.may_spend(cluster) {
                        return Ok(answer);
                    }
                    course.repeats = Some(match answer.judgement {
                        Judgement::Busy => Retry::Busy,
                        Judgement::Final | Judgement::Unable => Retry::ServerError,
                    });
                    course.last_answer = Some(answer);
                }
                Err(trouble) => {
                    course.fail(trouble);
                    let may_repeat = course.is_repeatable() || !trouble.sent;
                    if !may_repeat || course.is_over() || !(trouble.free || self.may_spend(cluster))
                    {
                        break;
                    }
                }
            }
        }
        course.give_up()
    }

    /// One try under its deadline, counted, and told to the node's health.
    async fn run(
        &self,
        course: &mut Course<'_>,
        pick: Pick,
        reading: Reading,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<Answer, Trouble> {
        let delivery = course.delivery;
        let node = pick.node().clone();
        course.enter(&node);
        if let Some(reason) = course.repeats.take() {
            self.metrics.count(reason);
        }
        let began = course.now;
        let per_try = delivery.cluster.settings().timeouts.per_try;
        let mut counted = Counted::begin(self, course, &node, began);
        let progress = Progress::begin(counted.trace(), began);
        let mut attempt = std::pin::pin!(self.attempt(delivery, pick, reading, &progress));
        let waiting = Waiting {
            node: &node,
            progress: &progress,
            began,
            patience: course.end.min(began + per_try),
        };
        let result = self
            .wait(course, &waiting, attempt.as_mut(), timer.as_mut())
            .await;
        course.now = Instant::now();
        let elapsed = course.now - began;
        let outcome = match &result {
            Ok(answer) => answer.outcome(),
            // A try that got less than its time says nothing of the node.
            Err(trouble) if trouble.cause == Cause::Timeout && elapsed < per_try => None,
            Err(trouble) => fault(trouble.cause).map(Outcome::Failure),
        };
        counted.end(&result, elapsed);
        if let Some(outcome) = outcome {
            let why = || match &result {
                Ok(answer) => failure_reason::of_answer(answer.status, answer.json.as_deref()),
                Err(trouble) => progress
                    .why()
                    .unwrap_or_else(|| failure_reason::of_cause(trouble.cause, elapsed)),
            };
            report(&delivery.cluster, &node, outcome, course.now, why);
        }
        result
    }

    /// Waits for a try until its time is up, or it is better to be elsewhere.
    async fn wait(
        &self,
        course: &Course<'_>,
        waiting: &Waiting<'_>,
        mut attempt: Pin<&mut impl Future<Output = Result<Answer, Trouble>>>,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<Answer, Trouble> {
        let patience = waiting.patience;
        timer.as_mut().reset(patience.min(waiting.began + LOOK));
        loop {
            tokio::select! {
                biased;
                result = attempt.as_mut() => return result,
                () = timer.as_mut() => {
                    let (sent, now) = (waiting.progress.sent(), Instant::now());
                    // Silent, and dead by its probes: plainly gone, while another one is well.
                    let gone = course.may_abandon(waiting.node, sent);
                    if !gone && now < patience {
                        timer.as_mut().reset(patience.min(now + LOOK));
                        continue;
                    }
                    // Only while another node is left, and may be asked, is this one too slow.
                    let leaves = gone
                        || (course.may_leave(sent) && self.may_spend(&course.delivery.cluster));
                    if !leaves && !course.is_over() {
                        timer.as_mut().reset(course.end.min(now + LOOK));
                        continue;
                    }
                    return Err(Trouble { cause: Cause::Timeout, sent, free: leaves });
                }
            }
        }
    }

    /// Takes a repetition out of the budget.
    fn may_spend(&self, cluster: &Cluster) -> bool {
        let limits = &cluster.settings().retries;
        let allowed = cluster.budget().withdraw(Instant::now().into_std(), limits);
        if !allowed {
            self.metrics.count(RetryBudget::Exhausted);
        }
        allowed
    }
}

/// What a try is waited for with.
struct Waiting<'a> {
    node: &'a Node,
    progress: &'a Progress,
    began: Instant,
    /// So long, while another node is left.
    patience: Instant,
}

/// How much of an answer is read before it is handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    /// As much as it takes to judge it.
    Stream,
    /// All.
    Whole,
}

/// Tells the cluster what a try or a probe showed, and the log what that changed. `why` is asked for
/// failures only.
fn report(
    cluster: &Cluster,
    node: &Node,
    outcome: Outcome,
    now: Instant,
    why: impl FnOnce() -> Why,
) {
    let now = now.into_std();
    let change = cluster.observe(node, outcome, now);
    let (fault, cause) = match outcome {
        Outcome::Failure(fault) | Outcome::ProbeFailure(fault) => (fault.as_str(), why()),
        Outcome::Busy | Outcome::ProbeSuccess | Outcome::Success => ("", Why::default()),
    };
    let is_news = !fault.is_empty() && node.explain(&cause, now);
    let (cluster, node, cause) = (&cluster.settings().name, node.name(), &*cause);
    match change {
        Some(Change::Down) => tracing::warn!(%cluster, %node, fault, cause, "node is down"),
        Some(Change::Ejected(time)) => {
            let seconds = time.as_secs();
            tracing::warn!(%cluster, %node, fault, cause, seconds, "node is put aside");
        }
        None if is_news => tracing::warn!(%cluster, %node, fault, cause, "node fails"),
        Some(Change::Restored) => tracing::info!(%cluster, %node, "node answers again"),
        Some(Change::Up) => tracing::info!(%cluster, %node, "node is up"),
        None => {}
    }
}

fn fault(cause: Cause) -> Option<Fault> {
    match cause {
        Cause::Broken => Some(Fault::Broken),
        Cause::Garbage => Some(Fault::Garbage),
        Cause::NoNode => None,
        Cause::Timeout => Some(Fault::Timeout),
        Cause::Unreachable => Some(Fault::Unreachable),
    }
}

/// How often a try that waits asks whether its node is known to be dead by now.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
