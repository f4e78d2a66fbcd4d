//! The sample requests: each exercises one feature of the gateway and checks its result.

use std::time::{Duration, Instant};

use anyhow::Context;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::environment::{DemoEnv, now};
use super::requests::{SHANGHAI, TimeWindow, join_all};
use crate::client::{ClientRequest, ClientResponse, DEFAULT_SIGNED_FIELDS};
use crate::stand_in::{Fault, When};

/// A sample request, or a group of them.
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

/// The result of a step.
#[derive(Debug)]
pub(super) struct StepReport {
    pub(super) passed: bool,
    pub(super) name: &'static str,
    /// What was answered: a status, or how many answers had it.
    pub(super) status: String,
    pub(super) elapsed: Duration,
    pub(super) text: String,
}

impl StepReport {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "passed": self.passed,
            "status": self.status,
            // Microseconds; more digits are noise.
            "duration_ms": (self.elapsed.as_secs_f64() * 1e6).round() / 1e3,
            "text": self.text,
        })
    }
}

struct StepOutcome {
    passed: bool,
    status: String,
    text: String,
}

impl DemoStep {
    /// All steps in the order in which they run: later steps rely on earlier ones.
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

    /// What the step does, while it runs.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Collapsed => "twenty requests for one recording, at once",
            Self::FailedOver => "nine requests while a node is killed",
            Self::Hit => "the same recording again",
            Self::Limited => "more requests than a rate limit allows",
            Self::Miss => "a recording, signed",
            Self::Normalized => "a request in UTC from a tenant in Berlin",
            Self::Refused => "a request with a forged signature",
            Self::Streamed => "a download of 32 MiB",
            Self::Validated => "a window that ends before it begins",
        }
    }

    /// Runs the step and measures its duration.
    #[expect(clippy::disallowed_methods, reason = "measures the duration of a step")]
    pub(super) async fn run(self, env: &mut DemoEnv) -> StepReport {
        let started = Instant::now();
        let (name, outcome) = match self {
            Self::Collapsed => ("collapsed", collapsed(env).await),
            Self::FailedOver => ("failed over", failed_over(env).await),
            Self::Hit => ("hit", hit(env).await),
            Self::Limited => ("limited", limited(env).await),
            Self::Miss => ("miss", miss(env).await),
            Self::Normalized => ("normalized", normalized(env).await),
            Self::Refused => ("refused", refused(env).await),
            Self::Streamed => ("streamed", streamed(env).await),
            Self::Validated => ("validated", validated(env).await),
        };
        let elapsed = started.elapsed();
        let outcome = outcome.unwrap_or_else(|error| StepOutcome {
            passed: false,
            status: "-".to_owned(),
            text: format!("{error:#}"),
        });
        StepReport {
            passed: outcome.passed,
            name,
            status: outcome.status,
            elapsed,
            text: outcome.text,
        }
    }
}

async fn miss(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let response = env.send_recording(0, "1637742300-27", SHANGHAI).await?;
    let passed = response.is_success() && response.cache_status().ends_with("fwd=uri-miss; stored");
    Ok(response.step_outcome(
        passed,
        "fetched from a node, stored until shortly before its URL expires",
    ))
}

async fn hit(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let before = env.recording_requests();
    let response = env.send_recording(0, "1637742300-27", SHANGHAI).await?;
    let passed = response.is_success()
        && response
            .cache_status()
            .starts_with("ccfs-gateway; hit; ttl=")
        && env.recording_requests() == before;
    let ttl = response
        .cache_status()
        .rsplit('=')
        .next()
        .unwrap_or_default();
    let text =
        format!("the same request again: from the cache, no request to a node, fresh for {ttl} s");
    Ok(response.step_outcome(passed, &text))
}

/// Sends a body without a version, whose times are UTC, for a tenant in Berlin (UTC+1 in winter).
async fn normalized(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let window = TimeWindow {
        begin: "2021-11-24 08:00:00",
        end: "2021-11-24 09:00:00",
        version: None,
    };
    let response = env.send_recording(1, "1637740800-1", window).await?;
    let received = env
        .nodes
        .iter()
        .flat_map(|node| node.requests())
        .rfind(|request| request.body.windows(12).any(|part| part == b"1637740800-1"));
    let body = received.map(|request| String::from_utf8_lossy(&request.body).into_owned());
    let body = body.unwrap_or_default();
    let passed = response.is_success()
        && body.contains("2021-11-24 09:00:00")
        && body.contains(r#""version":"2.0""#);
    let text = "08:00 UTC without version became 09:00 Berlin, version 2.0, signed again";
    Ok(response.step_outcome(passed, text))
}

async fn collapsed(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    for node in &env.nodes {
        node.faults()
            .inject(Fault::DelayHead(Duration::from_millis(150)), When::Always);
    }
    let before = env.recording_requests();
    let requests = (0..20).map(|_| env.send_recording(0, "1637742301-1", SHANGHAI));
    let responses = join_all(requests).await;
    env.nodes.iter().for_each(|node| node.faults().clear());
    let succeeded = responses
        .iter()
        .flatten()
        .filter(|response| response.is_success())
        .count();
    let fetched = env.recording_requests() - before;
    Ok(StepOutcome {
        passed: succeeded == 20 && fetched == 1,
        status: format!("{succeeded} x 200"),
        text: format!("20 requests at once, {fetched} request to a node, shared by all"),
    })
}

/// Stops a node and sends requests. The node is started again whatever their result is.
async fn failed_over(env: &mut DemoEnv) -> anyhow::Result<StepOutcome> {
    if let Some(node) = env.nodes.first_mut() {
        node.stop().await;
    }
    let succeeded = count_successes(env).await;
    if let Some(node) = env.nodes.first_mut() {
        let restarted = node.restart().await;
        restarted.with_context(|| format!("cannot start node {} again", node.address()))?;
    }
    let succeeded = succeeded?;
    Ok(StepOutcome {
        passed: succeeded == 9,
        status: format!("{succeeded} x 200"),
        text:
            "a node was killed: 9 requests, none failed, the other nodes served them; it runs again"
                .to_owned(),
    })
}

/// Sends nine requests that are not cached, and returns how many succeeded.
async fn count_successes(env: &DemoEnv) -> anyhow::Result<usize> {
    let mut succeeded = 0;
    for call in 0..9 {
        let call_id = format!("1637742302-{call}");
        let response = env.send_recording(0, &call_id, SHANGHAI).await?;
        succeeded += usize::from(response.is_success());
    }
    Ok(succeeded)
}

async fn validated(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let before = env.recording_requests();
    let window = TimeWindow {
        begin: "2021-11-25 00:00:00",
        ..SHANGHAI
    };
    let response = env.send_recording(0, "1637742300-27", window).await?;
    let passed = response.status == StatusCode::OK
        && response.result_code().as_deref() == Some("0300013")
        && env.recording_requests() == before;
    let text = response.json()["resultDesc"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Ok(response.step_outcome(
        passed,
        &format!("0300013 without a request to a node: {text}"),
    ))
}

async fn refused(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let request = env.recording_request("1637742300-27", SHANGHAI)?;
    let forged = format!(
        "auth-v2/{}/{:.0}/host/{}",
        crate::cli::trial::ACCESS_KEYS[0],
        now(),
        "0".repeat(64)
    );
    let request = request.with_authorization(HeaderValue::from_str(&forged)?);
    let response = env.client.send(&request).await?;
    let passed =
        response.status == StatusCode::UNAUTHORIZED && response.json()["resultData"].is_null();
    Ok(response.step_outcome(
        passed,
        "a forged signature for a cached recording is rejected",
    ))
}

async fn streamed(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let body = r#"{"request":{},"msgBody":{"fileName":"Y:/record/size-33554432.wav"}}"#;
    let url = format!("{}/CCFS/resource/ccfs/downloadRecordFile", env.url());
    let credential = env
        .credentials
        .first()
        .ok_or_else(|| anyhow::anyhow!("no account"))?;
    let request =
        ClientRequest::post(&url, body)?.sign(credential, DEFAULT_SIGNED_FIELDS, now())?;
    let mut response = env.client.send_streaming(&request).await?;
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await? {
        bytes += chunk.len();
    }
    Ok(StepOutcome {
        passed: response.status == StatusCode::OK && bytes == 33_554_432,
        status: response.status.as_u16().to_string(),
        text: format!(
            "a recording of {} MiB, streamed; request.version was added",
            bytes >> 20
        ),
    })
}

/// Exceeds the rate limit of the second account: 1/s with a burst of 2, one of which is already used.
async fn limited(env: &DemoEnv) -> anyhow::Result<StepOutcome> {
    let mut last = None;
    for call in 0..6 {
        let response = env
            .send_recording(1, &format!("1637742303-{call}"), SHANGHAI)
            .await?;
        let limited = response.status == StatusCode::TOO_MANY_REQUESTS;
        last = Some(response);
        if limited {
            break;
        }
    }
    let response = last.ok_or_else(|| anyhow::anyhow!("no request was sent"))?;
    let wait = response.header("retry-after").unwrap_or("?").to_owned();
    let passed = response.status == StatusCode::TOO_MANY_REQUESTS
        && response.result_code().as_deref() == Some("0300009");
    let text = format!(
        "an access key over its rate limit of 1/s: {}, Retry-After {wait} s",
        "0300009"
    );
    Ok(response.step_outcome(passed, &text))
}

impl ClientResponse {
    fn is_success(&self) -> bool {
        self.status == StatusCode::OK && self.result_code().as_deref() == Some("0")
    }

    fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or_default()
    }

    fn step_outcome(&self, passed: bool, text: &str) -> StepOutcome {
        StepOutcome {
            passed,
            status: self.status.as_u16().to_string(),
            text: text.to_owned(),
        }
    }
}
