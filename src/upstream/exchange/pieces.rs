//! Reads a whole response from pieces in memory, as [`Connection`](super::Connection) does from a socket:
//! for the fuzz target and the comparison with hyper.

use bytes::BytesMut;

use super::framing::Decoded;
use super::head::HeadReader;
use crate::upstream::fuzzing::Response;

/// Reads one response; the end of `pieces` is the end of the connection.
pub(in crate::upstream) fn read_pieces<'a>(
    mut pieces: impl Iterator<Item = &'a [u8]>,
    is_head: bool,
) -> Result<Response, String> {
    let mut buffer = BytesMut::new();
    let mut reader = HeadReader::default();
    let mut head = loop {
        if let Some(head) = reader.take(&mut buffer, is_head)? {
            break head;
        }
        buffer.extend_from_slice(pieces.next().ok_or("closed before the response")?);
    };
    let mut body = Vec::new();
    loop {
        match head.framing.decode(&mut buffer)? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::End => break,
            Decoded::Incomplete => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None if head.framing.end_at_close() => break,
                None => return Err("closed inside the response".into()),
            },
        }
    }
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    Ok(Response {
        status: head.status.as_u16(),
        fields: head.headers.iter().map(field).collect(),
        body,
        reusable: head.keep_alive && buffer.is_empty() && pieces.next().is_none(),
    })
}
