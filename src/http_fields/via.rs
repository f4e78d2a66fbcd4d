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

    /// Whether an element of any `Via` field was received by this process.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let own = self.element.as_bytes().split(|byte| *byte == b' ').nth(1);
        headers
            .get_all(VIA)
            .iter()
            .any(|value| received_by(value.as_bytes()).any(|name| Some(name) == own))
    }
}

/// Returns the received-by part of each element of a `Via` value, which follows the protocol. Comments may
/// hold commas, so they are skipped first.
fn received_by(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut depth = 0_usize;
    let is_comma_outside_comments = move |byte: &u8| {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        *byte == b',' && depth == 0
    };
    value
        .split(is_comma_outside_comments)
        .filter_map(|element| {
            let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
            element
                .split(is_blank)
                .filter(|part| !part.is_empty())
                .nth(1)
        })
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
            &[&format!("1.1 fred {name}")],
        ] {
            assert!(!is_in(values), "{values:?}");
        }
    }
}
