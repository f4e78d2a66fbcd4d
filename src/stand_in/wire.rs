//! Faults that no HTTP library would commit: the answer is written to the TLS stream by hand.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::faults::Fault;
use super::response::{Answer, Content};

/// What is written instead of an orderly answer.
#[derive(Debug)]
pub(super) struct Script {
    /// Raw bytes first, usually a head.
    head: Bytes,
    /// Then so many bytes of this.
    body: Option<(Content, u64)>,
    /// Then raw bytes again.
    tail: &'static [u8],
    /// And then?
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// `close_notify` and FIN.
    Close,
    /// RST.
    Reset,
    /// The connection stays until the peer ends it.
    Stay,
}

impl Script {
    /// The script of a fault about the wire; `None` for the others.
    pub(super) fn of(fault: &Fault, answer: &Answer) -> Option<Self> {
        let (none, half, all) = (0, answer.content.len() / 2, answer.content.len());
        let length = format!("content-length: {all}\r\n");
        let (head, body, end) = match fault {
            Fault::CloseBeforeAnswer => (String::new(), none, End::Close),
            Fault::CloseInHead => {
                let mut head = head(answer, &length);
                head.truncate(head.len() / 2);
                (head, none, End::Close)
            }
            Fault::CloseInBody => (head(answer, &length), half, End::Close),
            Fault::CloseAfterAnswer => (head(answer, &length), all, End::Close),
            Fault::GarbageHttp => ("\u{16}\u{3}SSH-2.0-x\r\n\r\n".into(), none, End::Close),
            Fault::Hang => (String::new(), none, End::Stay),
            Fault::HangInBody => (head(answer, &length), half, End::Stay),
            Fault::Interim => {
                let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
                (interim.to_owned() + &head(answer, &length), all, End::Stay)
            }
            Fault::LengthAndChunked => {
                let both = format!("{length}transfer-encoding: chunked\r\n");
                let begin = format!("{}{all:x}\r\n", head(answer, &both));
                (begin, all, End::Stay)
            }
            Fault::NulInField => (head(answer, &(length + "x-node: a\0b\r\n")), all, End::Stay),
            Fault::Reset => (String::new(), none, End::Reset),
            Fault::ResetInBody => (head(answer, &length), half, End::Reset),
            Fault::Surplus => (head(answer, &length), all, End::Stay),
            Fault::TwoLengths => {
                let second = format!("{length}content-length: {}\r\n", all + 1);
                (head(answer, &second), all, End::Stay)
            }
            Fault::UntilClose => (head(answer, ""), all, End::Close),
            Fault::BigAnswer(_)
            | Fault::Chunked
            | Fault::DelayBody(_)
            | Fault::DelayHead(_)
            | Fault::Drip(..)
            | Fault::FlowControl
            | Fault::GarbageJson
            | Fault::Hold
            | Fault::HopByHopFields
            | Fault::ResultCode(_)
            | Fault::Status(_) => return None,
        };
        Some(Self {
            head: head.into(),
            body: (body > 0).then(|| (answer.content.clone(), body)),
            tail: match fault {
                Fault::LengthAndChunked => b"\r\n0\r\n\r\n",
                Fault::Surplus => SECOND_ANSWER,
                _ => b"",
            },
            end,
        })
    }

    /// Writes it all. Returns whether the peer sent another request on a connection that it should
    /// not have used again.
    pub(super) async fn play(self, mut stream: TlsStream<TcpStream>) -> io::Result<bool> {
        stream.write_all(&self.head).await?;
        if let Some((content, length)) = self.body {
            let mut offset = 0;
            while offset < length {
                let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
                let piece = content.piece(offset, left.min(16 * 1024));
                stream.write_all(&piece).await?;
                offset += piece.len() as u64;
            }
        }
        stream.write_all(self.tail).await?;
        stream.flush().await?;
        match self.end {
            End::Close => stream.shutdown().await.map(|()| false),
            End::Reset => reset(stream.get_ref().0).map(|()| false),
            End::Stay => {
                let mut next = [0; 1];
                let read = tokio::time::timeout(LONGEST_STAY, stream.read(&mut next)).await;
                Ok(matches!(read, Ok(Ok(1))))
            }
        }
    }
}

/// Makes the drop of `stream` a reset.
pub(super) fn reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn head(answer: &Answer, fields: &str) -> String {
    let reason = answer.status.canonical_reason().unwrap_or_default();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\n{fields}\r\n",
        answer.status.as_u16(),
        answer.content_type
    )
}

/// An answer to nobody's question; whose URL must never reach a client.
const SECOND_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 57\r\n\r\n\
      {\"resultData\":{\"url\":\"https://surplus\"},\"resultCode\":\"0\"}";

/// No peer waits longer for an answer that does not come.
const LONGEST_STAY: Duration = Duration::from_secs(600);

/// What [`Fault::Status`] makes.
pub(super) fn status(code: u16) -> Answer {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::UNAUTHORIZED {
        Answer::failure(status, "401", "signature verification failed")
    } else {
        Answer::page(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_what_the_fault_is() {
        let answer = Answer::json(&serde_json::json!({"resultCode": "0"}));
        let script = |fault| Script::of(&fault, &answer).unwrap();
        let text = |fault| String::from_utf8(script(fault).head.to_vec()).unwrap();
        assert!(text(Fault::LengthAndChunked).ends_with("chunked\r\n\r\n12\r\n"));
        assert_eq!(text(Fault::TwoLengths).matches("content-length").count(), 2);
        assert!(!text(Fault::CloseInHead).contains("\r\n\r\n"));
        assert!(!text(Fault::UntilClose).contains("content-length"));
        assert_eq!(script(Fault::CloseInBody).body.unwrap().1, 9);
        assert!(Script::of(&Fault::GarbageJson, &answer).is_none());
    }

    #[test]
    fn the_second_answer_has_its_length() {
        let text = std::str::from_utf8(SECOND_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!(": {}", body.len())),
            "{}",
            body.len()
        );
    }
}
