//! The requests that the steps send.

use super::environment::{DemoEnv, now};
use crate::client::{
    ClientError, ClientRequest, ClientResponse, DEFAULT_SIGNED_FIELDS, RecordingQuery,
};

/// Time window and version of a recording request.
#[derive(Clone, Copy)]
pub(super) struct TimeWindow {
    pub(super) begin: &'static str,
    pub(super) end: &'static str,
    pub(super) version: Option<&'static str>,
}

/// The window of most requests, in the time zone of the first tenant.
pub(super) const SHANGHAI: TimeWindow = TimeWindow {
    begin: "2021-11-24 16:25:03",
    end: "2021-11-24 17:25:11",
    version: Some("2.0"),
};

impl DemoEnv {
    /// Returns an unsigned recording request.
    pub(super) fn recording_request(
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

    /// Signs a recording request with a credential, by its index, and sends it.
    pub(super) async fn send_recording(
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

/// Polls all futures concurrently on this task, and returns their outputs in order.
pub(super) async fn join_all<T>(
    futures: impl IntoIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
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
