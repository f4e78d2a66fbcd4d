//! Writes a binary response to a file. A JSON object is an error response of CC-FS whatever its
//! Content-Type says, and is never written to the file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::StatusCode;

use super::{collect_within, is_binary, partial_path};
use crate::client::{Client, ClientError, ClientResponse, StreamingClientResponse};

/// Result of a download.
#[derive(Debug)]
pub(super) enum DownloadOutcome {
    /// The file was written; its size in bytes.
    Written(u64),
    /// The response was not binary; nothing was written.
    NotBinary(ClientResponse),
}

/// Streams a response to `path`. Fails if no bytes arrive for longer than `silence`.
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
    let partial = partial_path(path);
    let written = write_file(&start, &mut response, &partial, idle_timeout).await;
    match written {
        Ok(size) => {
            fs::rename(&partial, path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(DownloadOutcome::Written(size))
        }
        Err(error) => {
            let _ = fs::remove_file(&partial);
            Err(error)
        }
    }
}

async fn write_file(
    start: &[u8],
    response: &mut StreamingClientResponse,
    path: &Path,
    idle_timeout: Duration,
) -> anyhow::Result<u64> {
    let problem = || format!("cannot write {}", path.display());
    let mut file = File::create(path).with_context(problem)?;
    file.write_all(start).with_context(problem)?;
    let mut size = start.len() as u64;
    while let Some(chunk) = next_chunk(response, idle_timeout).await? {
        file.write_all(&chunk).with_context(problem)?;
        size += chunk.len() as u64;
    }
    Ok(size)
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
    const LONGEST_FAILURE: usize = 1024 * 1024;
    if so_far > LONGEST_FAILURE {
        bail!("the response begins like JSON and is too long for an error");
    }
    next_chunk(response, idle_timeout).await
}
