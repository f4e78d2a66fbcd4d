//! A binary answer to a file, whole or not at all. A failure is JSON whatever its Content-Type says,
//! and never becomes a file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::StatusCode;

use super::{collect_within, is_binary, partial_path};
use crate::client::{Client, ClientError, ClientResponse, StreamingClientResponse};

/// What became of an answer.
#[derive(Debug)]
pub(super) enum DownloadOutcome {
    /// A file of so many bytes.
    Written(u64),
    /// It was none.
    NotBinary(ClientResponse),
}

/// Streams an answer to `path`; nothing may be silent for longer than `silence`.
pub(super) async fn save(
    mut answer: StreamingClientResponse,
    client: &Client,
    path: &Path,
    silence: Duration,
) -> anyhow::Result<DownloadOutcome> {
    if answer.status != StatusCode::OK || !is_binary(&answer.headers) {
        return Ok(DownloadOutcome::NotBinary(
            collect_within(answer, client, silence).await?,
        ));
    }
    let (status, headers) = (answer.status, answer.headers.clone());
    let mut begin = next_chunk(&mut answer, silence)
        .await?
        .unwrap_or_default()
        .to_vec();
    if begin.first() == Some(&b'{') {
        while let Some(piece) = next_json_chunk(&mut answer, silence, begin.len()).await? {
            begin.extend_from_slice(&piece);
        }
        let failure = ClientResponse {
            status,
            headers,
            body: begin.into(),
        };
        if failure.json().is_object() {
            return Ok(DownloadOutcome::NotBinary(failure));
        }
        begin = failure.body.into();
    }
    let unfinished = partial_path(path);
    let written = write_file(&begin, &mut answer, &unfinished, silence).await;
    match written {
        Ok(size) => {
            fs::rename(&unfinished, path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(DownloadOutcome::Written(size))
        }
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

async fn write_file(
    begin: &[u8],
    answer: &mut StreamingClientResponse,
    path: &Path,
    silence: Duration,
) -> anyhow::Result<u64> {
    let problem = || format!("cannot write {}", path.display());
    let mut file = File::create(path).with_context(problem)?;
    file.write_all(begin).with_context(problem)?;
    let mut size = begin.len() as u64;
    while let Some(piece) = next_chunk(answer, silence).await? {
        file.write_all(&piece).with_context(problem)?;
        size += piece.len() as u64;
    }
    Ok(size)
}

async fn next_chunk(
    answer: &mut StreamingClientResponse,
    silence: Duration,
) -> anyhow::Result<Option<Bytes>> {
    let piece = tokio::time::timeout(silence, answer.chunk()).await;
    Ok(piece.map_err(|_| ClientError::Timeout(silence))??)
}

/// What begins as JSON ends soon, or is none.
async fn next_json_chunk(
    answer: &mut StreamingClientResponse,
    silence: Duration,
    so_far: usize,
) -> anyhow::Result<Option<Bytes>> {
    const LONGEST_FAILURE: usize = 1024 * 1024;
    if so_far > LONGEST_FAILURE {
        bail!("the answer begins as JSON and does not end");
    }
    next_chunk(answer, silence).await
}
