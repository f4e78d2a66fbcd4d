//! Host and `:authority` (RFC 9110, 7.2; RFC 3986, 3.2.2), without user information (RFC 9110, 4.2.4).

use super::HeadError;
use crate::metrics::MalformedReason;

/// Rejects anything but `host` and `host:port`.
pub(super) fn validate(host: &[u8]) -> Result<(), HeadError> {
    if is_host_and_port(host) {
        Ok(())
    } else {
        Err(HeadError::new(
            MalformedReason::Host,
            "Host is empty or not of the form host or host:port",
        ))
    }
}

/// Rejects a target whose authority differs from Host (RFC 9112, 3.2.2); case is ignored.
pub(super) fn require_same_host(one: &[u8], other: &[u8]) -> Result<(), HeadError> {
    if one.eq_ignore_ascii_case(other) {
        Ok(())
    } else {
        Err(HeadError::new(
            MalformedReason::Host,
            "the target's authority and Host differ",
        ))
    }
}

fn is_host_and_port(host: &[u8]) -> bool {
    if host.len() > MAX_HOST_LENGTH {
        return false;
    }
    if let Some(literal) = host.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, rest) = literal.split_at(end);
        let is_address = std::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        return is_address && matches!(rest, [b']'] | [b']', b':', ..]) && is_port(rest.get(2..));
    }
    match host.iter().position(|&byte| byte == b':') {
        Some(colon) => {
            let (name, port) = host.split_at(colon);
            is_reg_name(name) && is_port(port.get(1..))
        }
        None => is_reg_name(host),
    }
}

fn is_reg_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|&byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'.' | b'_' | b'~')
                || matches!(
                    byte,
                    b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
                )
        })
}

/// Whether a port is absent, empty (RFC 3986, 3.2.3 allows it), or a number.
fn is_port(port: Option<&[u8]>) -> bool {
    port.is_none_or(|digits| {
        digits.is_empty()
            || digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
    })
}

/// A DNS name has at most 253 characters (RFC 1035, 2.3.4); a port or brackets come on top.
const MAX_HOST_LENGTH: usize = 300;
