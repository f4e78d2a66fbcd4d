//! Faults that no HTTP library would commit: the answer is written to the TLS stream by hand.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::faults::Fault;
use super::response::{Content, StandInResponse};

/// What is written instead of an orderly answer.
#[derive(Debug)]
pub(super) struct WireScript {
    /// Raw bytes first, usually a head.
    head: Bytes,
    /// Then so many bytes of this.
    body: Option<(Content, u64)>,
    /// Then raw bytes again.
    tail: &'static [u8],
    /// And then?
    end: ConnectionEnd,
}

#[derive(Clone, Copy, Debug)]
enum ConnectionEnd {
    /// `close_notify` and FIN.
    Close,
    /// RST.
    Reset,
    /// The connection stays until the peer ends it.
    KeepOpen,
}

impl WireScript {
    /// The script of a fault about the wire; `None` for the others.
    pub(super) fn for_fault(fault: &Fault, answer: &StandInResponse) -> Option<Self> {
        let (none, half, all) = (0, answer.content.len() / 2, answer.content.len());
        let length = format!("content-length: {all}\r\n");
        let (head, body, end) = match fault {
            Fault::CloseBeforeResponse => (String::new(), none, ConnectionEnd::Close),
            Fault::CloseInHead => {
                let mut head = format_head(answer, &length);
                head.truncate(head.len() / 2);
                (head, none, ConnectionEnd::Close)
            }
            Fault::CloseInBody => (format_head(answer, &length), half, ConnectionEnd::Close),
            Fault::CloseAfterResponse => (format_head(answer, &length), all, ConnectionEnd::Close),
            Fault::GarbageHttp => (
                "\u{16}\u{3}SSH-2.0-x\r\n\r\n".into(),
                none,
                ConnectionEnd::Close,
            ),
            Fault::Hang => (String::new(), none, ConnectionEnd::KeepOpen),
            Fault::HangInBody => (format_head(answer, &length), half, ConnectionEnd::KeepOpen),
            Fault::Interim => {
                let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
                (
                    interim.to_owned() + &format_head(answer, &length),
                    all,
                    ConnectionEnd::KeepOpen,
                )
            }
            Fault::ContentLengthAndChunked => {
                let both = format!("{length}transfer-encoding: chunked\r\n");
                let begin = format!("{}{all:x}\r\n", format_head(answer, &both));
                (begin, all, ConnectionEnd::KeepOpen)
            }
            Fault::NulInHeaderValue => (
                format_head(answer, &(length + "x-node: a\0b\r\n")),
                all,
                ConnectionEnd::KeepOpen,
            ),
            Fault::Reset => (String::new(), none, ConnectionEnd::Reset),
            Fault::ResetInBody => (format_head(answer, &length), half, ConnectionEnd::Reset),
            Fault::ExtraResponse => (format_head(answer, &length), all, ConnectionEnd::KeepOpen),
            Fault::ConflictingContentLengths => {
                let second = format!("{length}content-length: {}\r\n", all + 1);
                (format_head(answer, &second), all, ConnectionEnd::KeepOpen)
            }
            Fault::UntilClose => (format_head(answer, ""), all, ConnectionEnd::Close),
            Fault::BigResponse(_)
            | Fault::Chunked
            | Fault::DelayBody(_)
            | Fault::DelayHead(_)
            | Fault::Drip(..)
            | Fault::FlowControl
            | Fault::GarbageJson
            | Fault::Hold
            | Fault::HopByHopHeaders
            | Fault::ResultCode(_)
            | Fault::Status(_) => return None,
        };
        Some(Self {
            head: head.into(),
            body: (body > 0).then(|| (answer.content.clone(), body)),
            tail: match fault {
                Fault::ContentLengthAndChunked => b"\r\n0\r\n\r\n",
                Fault::ExtraResponse => EXTRA_RESPONSE,
                _ => b"",
            },
            end,
        })
    }

    /// Writes it all. Returns whether the peer sent another request on a connection that it should
    /// not have used again.
    pub(super) async fn run(self, mut stream: TlsStream<TcpStream>) -> io::Result<bool> {
        stream.write_all(&self.head).await?;
        if let Some((content, length)) = self.body {
            let mut offset = 0;
            while offset < length {
                let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
                let piece = content.chunk(offset, left.min(16 * 1024));
                stream.write_all(&piece).await?;
                offset += piece.len() as u64;
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

/// Makes the drop of `stream` a reset.
pub(super) fn reset_on_drop(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn format_head(answer: &StandInResponse, fields: &str) -> String {
    let reason = answer.status.canonical_reason().unwrap_or_default();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\n{fields}\r\n",
        answer.status.as_u16(),
        answer.content_type
    )
}

/// An answer to nobody's question; whose URL must never reach a client.
const EXTRA_RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 57\r\n\r\n\
      {\"resultData\":{\"url\":\"https://surplus\"},\"resultCode\":\"0\"}";

/// No peer waits longer for an answer that does not come.
const MAX_KEEP_OPEN: Duration = Duration::from_secs(600);

/// What [`Fault::Status`] makes.
pub(super) fn status_response(code: u16) -> StandInResponse {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::UNAUTHORIZED {
        StandInResponse::failure(status, "401", "signature verification failed")
    } else {
        StandInResponse::html_page(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_what_the_fault_is() {
        let answer = StandInResponse::json(&serde_json::json!({"resultCode": "0"}));
        let script = |fault| WireScript::for_fault(&fault, &answer).unwrap();
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
        assert!(WireScript::for_fault(&Fault::GarbageJson, &answer).is_none());
    }

    #[test]
    fn the_second_answer_has_its_length() {
        let text = std::str::from_utf8(EXTRA_RESPONSE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!(": {}", body.len())),
            "{}",
            body.len()
        );
    }
}
