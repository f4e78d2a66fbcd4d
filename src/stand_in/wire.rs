//! Faults that an HTTP library cannot produce: raw bytes are written to the TLS stream.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::faults::Fault;
use super::response::{Content, StandInResponse};

/// The raw bytes that are written instead of a response.
#[derive(Debug)]
pub(super) struct WireScript {
    /// Written first, usually a response head.
    head: Bytes,
    /// Written next: a body and how many bytes of it.
    body: Option<(Content, u64)>,
    /// Written last.
    tail: &'static [u8],
    /// What happens to the connection afterwards.
    end: ConnectionEnd,
}

#[derive(Clone, Copy, Debug)]
enum ConnectionEnd {
    /// It is closed with `close_notify` and FIN.
    Close,
    /// It is reset (RST).
    Reset,
    /// It stays open until the peer closes it.
    KeepOpen,
}

impl WireScript {
    /// Returns the script of a wire fault; `None` for other faults.
    pub(super) fn for_fault(fault: &Fault, response: &StandInResponse) -> Option<Self> {
        use ConnectionEnd as End;

        let (none, half, all) = (0, response.content.len() / 2, response.content.len());
        let length = format!("content-length: {all}\r\n");
        let usual = || format_head(response, &length);
        let with = |field: &str| format_head(response, &format!("{length}{field}\r\n"));
        let (head, body, end) = match fault {
            Fault::CloseBeforeResponse => (String::new(), none, End::Close),
            Fault::CloseInHead => {
                let mut head = usual();
                head.truncate(head.len() / 2);
                (head, none, End::Close)
            }
            Fault::CloseInBody => (usual(), half, End::Close),
            Fault::CloseAfterResponse => (usual(), all, End::Close),
            Fault::GarbageHttp => ("\u{16}\u{3}SSH-2.0-x\r\n\r\n".into(), none, End::Close),
            Fault::Hang => (String::new(), none, End::KeepOpen),
            Fault::HangInBody => (usual(), half, End::KeepOpen),
            Fault::Interim => {
                let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
                (interim.to_owned() + &usual(), all, End::KeepOpen)
            }
            Fault::ContentLengthAndChunked => {
                let head = with("transfer-encoding: chunked");
                (format!("{head}{all:x}\r\n"), all, End::KeepOpen)
            }
            Fault::NulInHeaderValue => (with("x-node: a\0b"), all, End::KeepOpen),
            Fault::Reset => (String::new(), none, End::Reset),
            Fault::ResetInBody => (usual(), half, End::Reset),
            Fault::ExtraResponse => (usual(), all, End::KeepOpen),
            Fault::ConflictingContentLengths => {
                let head = with(&format!("content-length: {}", all + 1));
                (head, all, End::KeepOpen)
            }
            Fault::UntilClose => (format_head(response, ""), all, End::Close),
            Fault::BigResponse(_)
            | Fault::Body(..)
            | Fault::Chunked
            | Fault::DelayBody(_)
            | Fault::DelayHead(_)
            | Fault::Drip(..)
            | Fault::FlowControl
            | Fault::GarbageJson
            | Fault::Hold
            | Fault::Header(..)
            | Fault::HopByHopHeaders
            | Fault::ResultCode(_)
            | Fault::Status(_) => return None,
        };
        Some(Self {
            head: head.into(),
            body: (body > 0).then(|| (response.content.clone(), body)),
            tail: match fault {
                Fault::ContentLengthAndChunked => b"\r\n0\r\n\r\n",
                Fault::ExtraResponse => EXTRA_RESPONSE,
                _ => b"",
            },
            end,
        })
    }

    /// Writes the bytes. Returns true if the peer reused a connection that it must not reuse.
    pub(super) async fn run(self, mut stream: TlsStream<TcpStream>) -> io::Result<bool> {
        stream.write_all(&self.head).await?;
        if let Some((content, length)) = self.body {
            let mut offset = 0;
            while offset < length {
                let remaining = usize::try_from(length - offset).unwrap_or(usize::MAX);
                let chunk = content.chunk(offset, remaining.min(16 * 1024));
                stream.write_all(&chunk).await?;
                offset += chunk.len() as u64;
            }
        }
        stream.write_all(self.tail).await?;
        stream.flush().await?;
        match self.end {
            ConnectionEnd::Close => stream.shutdown().await.map(|()| false),
            ConnectionEnd::Reset => reset_on_drop(stream.get_ref().0).map(|()| false),
            ConnectionEnd::KeepOpen => {
                let mut next = [0; 1];
                let read = tokio::time::timeout(MAX_KEEP_OPEN, stream.read(&mut next)).await;
                Ok(matches!(read, Ok(Ok(1))))
            }
        }
    }
}

/// Makes dropping `stream` send an RST (SO_LINGER with 0 seconds).
pub(super) fn reset_on_drop(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn format_head(response: &StandInResponse, fields: &str) -> String {
    let reason = response.status.canonical_reason().unwrap_or_default();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\n{fields}\r\n",
        response.status.as_u16(),
        response.content_type
    )
}

/// A response without a request; its URL must never reach a client.
const EXTRA_RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 57\r\n\r\n\
      {\"resultData\":{\"url\":\"https://surplus\"},\"resultCode\":\"0\"}";

/// How long an open connection is kept at most: longer than any timeout of a client under test.
const MAX_KEEP_OPEN: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_produces_its_fault() {
        let response = StandInResponse::json(&serde_json::json!({"resultCode": "0"}));
        let script = |fault| WireScript::for_fault(&fault, &response).unwrap();
        let text = |fault| String::from_utf8(script(fault).head.to_vec()).unwrap();
        assert!(text(Fault::ContentLengthAndChunked).ends_with("chunked\r\n\r\n12\r\n"));
        assert_eq!(
            text(Fault::ConflictingContentLengths)
                .matches("content-length")
                .count(),
            2
        );
        assert!(!text(Fault::CloseInHead).contains("\r\n\r\n"));
        assert!(!text(Fault::UntilClose).contains("content-length"));
        assert_eq!(script(Fault::CloseInBody).body.unwrap().1, 9);
        assert!(WireScript::for_fault(&Fault::GarbageJson, &response).is_none());
    }

    #[test]
    fn the_extra_response_has_its_length() {
        let text = std::str::from_utf8(EXTRA_RESPONSE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!(": {}", body.len())),
            "{}",
            body.len()
        );
    }
}
