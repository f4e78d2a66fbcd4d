//! The name of this process in `Via`, by which forwarding loops are detected.

use http::HeaderMap;
use http::header::{HeaderValue, VIA};

use super::VIA_GATEWAY;

/// The pseudonym of one gateway process in `Via` toward nodes (RFC 9110, 7.6.3), by which it recognizes a
/// request that it has forwarded before.
#[derive(Clone, Debug)]
pub struct ViaPseudonym {
    /// `1.1 ccfs-gateway-` and 12 hex digits.
    element: HeaderValue,
}

impl ViaPseudonym {
    /// Creates the pseudonym of a process from 48 random bits.
    pub fn random() -> Self {
        let number = rand::random::<u64>() >> 16;
        let element = format!("1.1 ccfs-gateway-{number:012x}");
        Self {
            // Digits and letters are always legal; the fallback recognizes any gateway.
            element: HeaderValue::try_from(element).unwrap_or(VIA_GATEWAY),
        }
    }

    /// Returns the element that is appended to `Via`.
    pub fn element(&self) -> &HeaderValue {
        &self.element
    }

    /// Whether an element of any `Via` field was received by this process. Case-insensitive, as names of
    /// hosts are.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let own = self.element.as_bytes().split(|byte| *byte == b' ').nth(1);
        let is_own = |name: &[u8]| own.is_some_and(|own| own.eq_ignore_ascii_case(name));
        headers.get_all(VIA).iter().any(|value| {
            elements(value.as_bytes()).any(|element| received_by(element).is_some_and(is_own))
        })
    }
}

/// Splits a `Via` value at the commas outside comments. A comment that is never closed is none: it must not
/// hide the elements behind it.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut all = Comment::default();
    value.iter().for_each(|byte| all.advance(*byte));
    let has_comments = all.depth == 0;
    let mut comment = Comment::default();
    value.split(move |byte| {
        comment.advance(*byte);
        *byte == b',' && !(has_comments && comment.depth > 0)
    })
}

/// Returns the received-by part of an element, which follows the protocol.
fn received_by(element: &[u8]) -> Option<&[u8]> {
    let mut parts = element
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|part| !part.is_empty());
    // A comment that follows without a blank is no part of the name.
    parts.nth(1)?.split(|byte| *byte == b'(').next()
}

/// The position in comments (RFC 9110, 5.6.5), which nest and may have quoted pairs.
#[derive(Debug, Default)]
struct Comment {
    depth: usize,
    /// Whether the next byte is quoted by the last one.
    is_quoted: bool,
}

impl Comment {
    fn advance(&mut self, byte: u8) {
        let is_quoted = std::mem::take(&mut self.is_quoted);
        match byte {
            _ if is_quoted => {}
            b'\\' => self.is_quoted = self.depth > 0,
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_pseudonym_is_found_in_any_element_of_any_via() {
        let own = ViaPseudonym::random();
        let text = own.element().to_str().unwrap().to_owned();
        let name = text.strip_prefix("1.1 ").unwrap();
        assert_eq!(name.len(), "ccfs-gateway-".len() + 12);
        let is_in = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(VIA, value.parse().unwrap());
            }
            own.is_in(&headers)
        };
        for values in [
            &[text.as_str()][..],
            &["1.0 fred", &text],
            &[&format!("1.0 fred, {text}")],
            &[&format!("1.0 fred (a, (b) c),\t {text} (own), HTTP/2 x:1")],
            &[&format!("2 {name}")],
            &[&format!(" 1.1 \t{name} ,1.1 y")],
            &[&text.to_ascii_uppercase()],
            &[&format!("1.1 fred (a \\) b), {text}")],
            &[&format!("1.1 fred (a \\( b), {text}")],
            &[&format!("1.1 fred (a \\\\), {text}")],
            &[&format!("1.1 fred (a, {text}")],
            &[&format!("1.1 fred (a, {text} (b), 1.1 x")],
            &[&format!("1.1 fred\\(a), {text}, 1.1 x (b)")],
            &[&format!("{text}(a)")],
        ] {
            assert!(is_in(values), "{values:?}");
        }
        let other = ViaPseudonym::random();
        for values in [
            &[][..],
            &["1.1 ccfs-gateway"],
            &[other.element().to_str().unwrap()],
            &[&format!("1.1 {name}0")],
            &[&format!("1.1 x{name}")],
            &[name],
            &[&format!("1.1 fred (, {text})")],
            &[&format!("1.1 fred (\\), {text})")],
            &[&format!("1.1 fred {name}")],
        ] {
            assert!(!is_in(values), "{values:?}");
        }
    }
}
