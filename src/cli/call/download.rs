//! Writes a binary response to a file. A JSON object is an error response of CC-FS whatever its
//! Content-Type says, and is never written to the file.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use http::StatusCode;

use super::output_file::OutputFile;
use super::{collect_within, is_binary};
use crate::client::{Client, ClientError, ClientResponse, StreamingClientResponse};

/// Result of a download.
#[derive(Debug)]
pub(super) enum DownloadOutcome {
    /// The file was written; its size in bytes.
    Written(u64),
    /// The response was not binary; nothing was written.
    NotBinary(ClientResponse),
}

/// Streams a response to `path`. Fails if no bytes arrive for longer than `idle_timeout`.
pub(super) async fn save(
    mut response: StreamingClientResponse,
    client: &Client,
    path: &Path,
    idle_timeout: Duration,
) -> anyhow::Result<DownloadOutcome> {
    if response.status != StatusCode::OK || !is_binary(&response.headers) {
        return Ok(DownloadOutcome::NotBinary(
            collect_within(response, client, idle_timeout).await?,
        ));
    }
    let (status, headers) = (response.status, response.headers.clone());
    let mut start = next_chunk(&mut response, idle_timeout)
        .await?
        .unwrap_or_default()
        .to_vec();
    if start.first() == Some(&b'{') {
        while let Some(chunk) = next_json_chunk(&mut response, idle_timeout, start.len()).await? {
            start.extend_from_slice(&chunk);
        }
        let failure = ClientResponse {
            status,
            headers,
            body: start.into(),
        };
        if failure.json().is_object() {
            return Ok(DownloadOutcome::NotBinary(failure));
        }
        start = failure.body.into();
    }
    let file = OutputFile::create(path).await?;
    let mut size = start.len() as u64;
    file.write(start.into()).await?;
    while let Some(chunk) = next_chunk(&mut response, idle_timeout).await? {
        size += chunk.len() as u64;
        file.write(chunk).await?;
    }
    file.finish()?;
    Ok(DownloadOutcome::Written(size))
}

async fn next_chunk(
    response: &mut StreamingClientResponse,
    idle_timeout: Duration,
) -> anyhow::Result<Option<Bytes>> {
    let chunk = tokio::time::timeout(idle_timeout, response.chunk()).await;
    Ok(chunk.map_err(|_| ClientError::Timeout(idle_timeout))??)
}

/// Returns the next chunk of a body that begins like JSON; fails once it is too long to be an error
/// response.
async fn next_json_chunk(
    response: &mut StreamingClientResponse,
    idle_timeout: Duration,
    so_far: usize,
) -> anyhow::Result<Option<Bytes>> {
    if so_far > MAX_ERROR_BODY {
        bail!("the response begins like JSON and is too long for an error");
    }
    next_chunk(response, idle_timeout).await
}

/// An error response of CC-FS has a few hundred bytes; this is `[limits] max_answer`'s default.
const MAX_ERROR_BODY: usize = 1024 * 1024;
