//! Closing a connection. Closing a socket with unread bytes sends a RST, which can destroy a response
//! that the client has not read yet. The last response is therefore followed by a half-close, and what
//! still arrives is read and discarded for a limited time (nginx `lingering_close`).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::stream::Stream;

/// Sends `close_notify` and FIN, then closes.
pub(super) async fn close(mut stream: Stream, time: Duration) {
    let _ = timeout(time, stream.shutdown()).await;
}

/// Sends `close_notify` and FIN, then reads and discards until the client has closed too or `time` has
/// passed.
pub(super) async fn linger(mut stream: Stream, time: Duration) {
    let _ = timeout(time, async {
        stream.shutdown().await?;
        let mut discarded = [0; 1024];
        while stream.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}
