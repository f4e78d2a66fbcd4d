//! An entry point for the fuzz targets of `tests/fuzz`: reads a response of a node without sockets.

use super::exchange;

/// A response as the exchange parses it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names and values of the fields.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body without framing.
    pub body: Vec<u8>,
    /// Whether the connection can be used again.
    pub reusable: bool,
}

/// Reads a response that arrives in pieces of `piece` bytes, which is at least one, before the end of the
/// connection.
///
/// # Errors
/// Why the response is invalid or incomplete.
pub fn response(bytes: &[u8], piece: usize, is_head: bool) -> Result<Response, String> {
    exchange::read_pieces(bytes.chunks(piece), is_head)
}
