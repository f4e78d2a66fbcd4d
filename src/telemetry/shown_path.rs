//! What of a path logs, traces and pages show.

/// Returns the part of a path that may be shown: up to a `?` that a client escaped, and up to the value of a ticket.
/// Queries hold tickets and the signatures of URLs, and stay queries where a player or a proxy escaped them into the
/// path.
pub fn shown_path(path: &str) -> &str {
    // Hardly any path has one of them.
    if memchr::memchr2(b'%', b'=', path.as_bytes()).is_none() {
        return path;
    }
    let bytes = path.as_bytes();
    let mut ends = (0..bytes.len()).filter_map(|at| {
        let rest = bytes.get(at..)?;
        let after_name = rest
            .get(..TICKET.len())
            .filter(|name| name.eq_ignore_ascii_case(TICKET))
            .and_then(|_| rest.get(TICKET.len()..));
        let length = match after_name {
            Some(after) if after.first() == Some(&b'=') => TICKET.len() + 1,
            Some(after) => TICKET.len() + escaped(after, b"3d")?,
            None => escaped(rest, b"3f")?,
        };
        Some(at + length)
    });
    ends.next().and_then(|end| path.get(..end)).unwrap_or(path)
}

/// Returns the length of a character's escape at the start of a text, which may itself be escaped any number of times.
fn escaped(text: &[u8], code: &[u8; 2]) -> Option<usize> {
    let mut rest = text.strip_prefix(b"%")?;
    while let Some(inner) = rest.strip_prefix(b"25") {
        rest = inner;
    }
    let is_code = rest.get(..2)?.eq_ignore_ascii_case(code);
    is_code.then_some(text.len() - rest.len() + 2)
}

/// The parameter of a link that is a credential.
const TICKET: &[u8] = b"ticket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_in_a_path_is_not_shown() {
        for (path, shown) in [
            ("/recordings/1-1", "/recordings/1-1"),
            ("/CCFS/a%20b/c=d;ticket", "/CCFS/a%20b/c=d;ticket"),
            ("/recordings/1-1/ticket", "/recordings/1-1/ticket"),
            ("/recordings/1-1/ticket%20", "/recordings/1-1/ticket%20"),
            ("/recordings/1-1%3Fticket=AAAA", "/recordings/1-1%3F"),
            (
                "/recordings/1-1%3fbegin=x&ticket=AAAA",
                "/recordings/1-1%3f",
            ),
            ("/recordings/1-1%253Fticket=AAAA", "/recordings/1-1%253F"),
            (
                "/recordings/1-1%25253fticket=AAAA",
                "/recordings/1-1%25253f",
            ),
            ("/recordings/1-1&ticket=AAAA", "/recordings/1-1&ticket="),
            ("/recordings/1-1;TICKET%3DAAAA", "/recordings/1-1;TICKET%3D"),
            ("/a%2ftickets/ticket%253dAAAA", "/a%2ftickets/ticket%253d"),
            ("/x/ticket=", "/x/ticket="),
            ("/x%", "/x%"),
            ("/x%2", "/x%2"),
            ("/%25", "/%25"),
            ("", ""),
        ] {
            assert_eq!(shown_path(path), shown, "{path}");
        }
    }
}
