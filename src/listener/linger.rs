//! The end of a connection. A socket that is closed while bytes of the client wait to be read is
//! reset, and the reset can overtake the answer; so the last answer is followed by a half-close, and
//! what still comes is read and thrown away for a moment.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::stream::Stream;

/// Says goodbye (`close_notify`, FIN) and goes.
pub(super) async fn close(mut stream: Stream, time: Duration) {
    let _ = timeout(time, stream.shutdown()).await;
}

/// Says goodbye, then reads on until the client has closed too or time is up.
pub(super) async fn linger(mut stream: Stream, time: Duration) {
    let _ = timeout(time, async {
        stream.shutdown().await?;
        let mut scrap = [0; 1024];
        while stream.read(&mut scrap).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}
