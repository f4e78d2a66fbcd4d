//! The sample requests: each does one thing the gateway is for, and checks that it happened.

use std::fmt;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};

use super::environment::{DemoEnv, now};
use crate::client::{
    ClientError, ClientRequest, ClientResponse, DEFAULT_SIGNED_FIELDS, RecordingQuery,
};
use crate::stand_in::{Fault, When};

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum DemoStep {
    Collapsed,
    FailedOver,
    Hit,
    Limited,
    Miss,
    Normalized,
    Refused,
    Streamed,
    Validated,
}

/// What became of it, as one line of the screen.
#[derive(Debug)]
pub(super) struct StepReport {
    pub(super) passed: bool,
    name: &'static str,
    status: String,
    elapsed: Duration,
    text: String,
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.passed { "ok  " } else { "FAIL" };
        let Self {
            name, status, text, ..
        } = self;
        let ms = self.elapsed.as_secs_f64() * 1e3;
        write!(f, "{mark} {name:<12} {status:<9} {ms:>7.1} ms  {text}")
    }
}

struct StepOutcome {
    passed: bool,
    status: String,
    text: String,
}

impl DemoStep {
    /// In the order in which the story is told.
    pub(super) const ALL: [Self; 9] = [
        Self::Miss,
        Self::Hit,
        Self::Normalized,
        Self::Collapsed,
        Self::FailedOver,
        Self::Validated,
        Self::Refused,
        Self::Streamed,
        Self::Limited,
    ];

    /// Plays it.
    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    pub(super) async fn run(self, world: &mut DemoEnv) -> StepReport {
        let started = Instant::now();
        let (name, outcome) = match self {
            Self::Collapsed => ("collapsed", collapsed(world).await),
            Self::FailedOver => ("failed over", failed_over(world).await),
            Self::Hit => ("hit", hit(world).await),
            Self::Limited => ("limited", limited(world).await),
            Self::Miss => ("miss", miss(world).await),
            Self::Normalized => ("normalized", normalized(world).await),
            Self::Refused => ("refused", refused(world).await),
            Self::Streamed => ("streamed", streamed(world).await),
            Self::Validated => ("validated", validated(world).await),
        };
        let took = started.elapsed();
        let outcome = outcome.unwrap_or_else(|error| StepOutcome {
            passed: false,
            status: "-".to_owned(),
            text: format!("{error:#}"),
        });
        StepReport {
            passed: outcome.passed,
            name,
            status: outcome.status,
            elapsed: took,
            text: outcome.text,
        }
    }
}

async fn miss(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let answer = world.send_recording(0, "1637742300-27", SHANGHAI).await?;
    let good = answer.is_success() && answer.cache_status().ends_with("fwd=uri-miss; stored");
    Ok(answer.step_outcome(
        good,
        "fetched from a node, stored until shortly before its URL expires",
    ))
}

async fn hit(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let before = world.recording_requests();
    let answer = world.send_recording(0, "1637742300-27", SHANGHAI).await?;
    let good = answer.is_success()
        && answer.cache_status().starts_with("ccfs-gateway; hit; ttl=")
        && world.recording_requests() == before;
    let ttl = answer.cache_status().rsplit('=').next().unwrap_or_default();
    let text = format!("the same question again: from the cache, no node asked, fresh for {ttl} s");
    Ok(answer.step_outcome(good, &text))
}

/// UTC without version, from a tenant in Berlin: winter time is one hour ahead of UTC.
async fn normalized(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let window = TimeWindow {
        begin: "2021-11-24 08:00:00",
        end: "2021-11-24 09:00:00",
        version: None,
    };
    let answer = world.send_recording(1, "1637740800-1", window).await?;
    let seen = world
        .nodes
        .iter()
        .flat_map(|node| node.requests())
        .rfind(|request| request.body.windows(12).any(|part| part == b"1637740800-1"));
    let body = seen.map(|request| String::from_utf8_lossy(&request.body).into_owned());
    let body = body.unwrap_or_default();
    let good = answer.is_success()
        && body.contains("2021-11-24 09:00:00")
        && body.contains(r#""version":"2.0""#);
    let text = "08:00 UTC without version became 09:00 Berlin, version 2.0, signed again";
    Ok(answer.step_outcome(good, text))
}

async fn collapsed(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    for node in &world.nodes {
        node.faults()
            .inject(Fault::DelayHead(Duration::from_millis(150)), When::Always);
    }
    let before = world.recording_requests();
    let asked = (0..20).map(|_| world.send_recording(0, "1637742301-1", SHANGHAI));
    let answers = join_all(asked).await;
    world.nodes.iter().for_each(|node| node.faults().clear());
    let good = answers
        .iter()
        .flatten()
        .filter(|answer| answer.is_success())
        .count();
    let fetched = world.recording_requests() - before;
    Ok(StepOutcome {
        passed: good == 20 && fetched == 1,
        status: format!("{good} x 200"),
        text: format!("20 callers at once, {fetched} request to a node, shared by all"),
    })
}

async fn failed_over(world: &mut DemoEnv) -> anyhow::Result<StepOutcome> {
    if let Some(node) = world.nodes.first_mut() {
        node.stop().await;
    }
    let mut good = 0;
    for call in 0..9 {
        let answer = world
            .send_recording(0, &format!("1637742302-{call}"), SHANGHAI)
            .await?;
        good += usize::from(answer.is_success());
    }
    if let Some(node) = world.nodes.first_mut() {
        node.restart().await?;
    }
    Ok(StepOutcome {
        passed: good == 9,
        status: format!("{good} x 200"),
        text: "a node was killed: 9 requests, none lost, the others answered".to_owned(),
    })
}

async fn validated(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let before = world.recording_requests();
    let window = TimeWindow {
        begin: "2021-11-25 00:00:00",
        ..SHANGHAI
    };
    let answer = world.send_recording(0, "1637742300-27", window).await?;
    let good = answer.status == StatusCode::OK
        && answer.result_code().as_deref() == Some("0300013")
        && world.recording_requests() == before;
    let text = answer.json()["resultDesc"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Ok(answer.step_outcome(good, &format!("0300013 without troubling a node: {text}")))
}

async fn refused(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let request = world.recording_request("1637742300-27", SHANGHAI)?;
    let forged = format!(
        "auth-v2/{}/{:.0}/host/{}",
        super::files::ACCESS_KEYS[0],
        now(),
        "0".repeat(64)
    );
    let request = request.with_authorization(HeaderValue::from_str(&forged)?);
    let answer = world.client.send(&request).await?;
    let good = answer.status == StatusCode::UNAUTHORIZED && answer.json()["resultData"].is_null();
    Ok(answer.step_outcome(
        good,
        "a forged signature for a cached recording: nothing given away",
    ))
}

async fn streamed(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let body = r#"{"request":{},"msgBody":{"fileName":"Y:/record/size-33554432.wav"}}"#;
    let url = format!("{}/CCFS/resource/ccfs/downloadRecordFile", world.url());
    let credential = world
        .credentials
        .first()
        .ok_or_else(|| anyhow::anyhow!("no account"))?;
    let request =
        ClientRequest::post(&url, body)?.sign(credential, DEFAULT_SIGNED_FIELDS, now())?;
    let mut answer = world.client.send_streaming(&request).await?;
    let mut bytes = 0;
    while let Some(piece) = answer.chunk().await? {
        bytes += piece.len();
    }
    Ok(StepOutcome {
        passed: answer.status == StatusCode::OK && bytes == 33_554_432,
        status: answer.status.as_u16().to_string(),
        text: format!(
            "a recording of {} MiB, streamed; request.version was added",
            bytes >> 20
        ),
    })
}

/// The second account may make a node work once a second, twice at once; it has asked once already.
async fn limited(world: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let mut last = None;
    for call in 0..6 {
        let answer = world
            .send_recording(1, &format!("1637742303-{call}"), SHANGHAI)
            .await?;
        let limited = answer.status == StatusCode::TOO_MANY_REQUESTS;
        last = Some(answer);
        if limited {
            break;
        }
    }
    let answer = last.ok_or_else(|| anyhow::anyhow!("nothing was asked"))?;
    let wait = answer.header("retry-after").unwrap_or("?").to_owned();
    let good = answer.status == StatusCode::TOO_MANY_REQUESTS
        && answer.result_code().as_deref() == Some("0300009");
    let text = format!(
        "an ak over its budget of 1/s: {}, Retry-After {wait} s",
        "0300009"
    );
    Ok(answer.step_outcome(good, &text))
}

/// Times of a request.
#[derive(Clone, Copy)]
struct TimeWindow {
    begin: &'static str,
    end: &'static str,
    version: Option<&'static str>,
}

const SHANGHAI: TimeWindow = TimeWindow {
    begin: "2021-11-24 16:25:03",
    end: "2021-11-24 17:25:11",
    version: Some("2.0"),
};

impl DemoEnv {
    fn recording_request(
        &self,
        call_id: &str,
        window: TimeWindow,
    ) -> Result<ClientRequest, ClientError> {
        let TimeWindow {
            begin,
            end,
            version,
        } = window;
        ClientRequest::recording(
            &self.url(),
            &RecordingQuery {
                call_id,
                begin,
                end,
                version,
            },
        )
    }

    async fn send_recording(
        &self,
        account: usize,
        call_id: &str,
        window: TimeWindow,
    ) -> anyhow::Result<ClientResponse> {
        let credential = self
            .credentials
            .get(account)
            .ok_or_else(|| anyhow::anyhow!("no such account"))?;
        let request = self.recording_request(call_id, window)?.sign(
            credential,
            DEFAULT_SIGNED_FIELDS,
            now(),
        )?;
        Ok(self.client.send(&request).await?)
    }
}

impl ClientResponse {
    fn is_success(&self) -> bool {
        self.status == StatusCode::OK && self.result_code().as_deref() == Some("0")
    }

    fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or_default()
    }

    fn step_outcome(&self, good: bool, text: &str) -> StepOutcome {
        StepOutcome {
            passed: good,
            status: self.status.as_u16().to_string(),
            text: text.to_owned(),
        }
    }
}

/// Drives all at once, on this task.
async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}
