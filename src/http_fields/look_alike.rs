//! Names that a lenient node reads as a field that the gateway acts on or writes itself.

/// Whether a request field identifies the client, or does so when only its letters and digits are
/// compared. Only the gateway writes such a field toward nodes, even if the client signed another value.
pub fn is_identity(name: &str) -> bool {
    if is_common(name.as_bytes()) {
        return false;
    }
    let folded = Folded::new(name.as_bytes());
    folded.starts_with(b"xforwarded")
        || is_proxy_field(name.as_bytes(), &folded)
        || IDENTITY.contains(&folded.as_bytes())
}

/// Whether the gateway writes this request field toward nodes unless the client signed its own value.
pub fn is_rewritten_unless_signed(name: &str) -> bool {
    matches!(
        Folded::new(name.as_bytes()).as_bytes(),
        b"traceparent" | b"xrequestid"
    )
}

/// Whether a name is not one that the gateway acts on, but becomes one when a node reads it leniently: with
/// only letters and digits for what decides about framing, routing, authentication or identity, with `_` as
/// `-` (as CGI does) for the others.
pub fn is_look_alike(name: &[u8]) -> bool {
    !is_common(name) && reads_as_another(name)
}

/// Whether a field is one of most requests, and neither identifies the client nor looks like another one. A hit spent
/// a fiftieth of its instructions on folding such names.
fn is_common(name: &[u8]) -> bool {
    let mut fields = COMMON.iter();
    fields.any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

fn reads_as_another(name: &[u8]) -> bool {
    let folded = Folded::new(name);
    let reads_as_sensitive = SENSITIVE.contains(&folded.as_bytes())
        || folded.starts_with(b"xforwarded")
        || folded.starts_with(b"xgateway")
        || is_proxy_field(name, &folded);
    if reads_as_sensitive {
        return name.contains(&b'_') || !is_acted_on(name);
    }
    name.contains(&b'_') && ACTED_ON.iter().any(|field| reads_as(name, field))
}

/// Whether a trailer section may hold this field. RFC 9110, 6.5.1, excludes what decides about
/// framing, routing, authentication or the form of the content.
pub fn is_allowed_in_trailers(name: &[u8]) -> bool {
    !is_acted_on(name) && !is_look_alike(name)
}

/// Whether the gateway acts on a field of exactly this name.
fn is_acted_on(name: &[u8]) -> bool {
    let starts_with = |prefix: &&str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    ACTED_ON
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
        || ACTED_ON_PREFIXES.iter().any(starts_with)
}

/// Whether a name reads as `Proxy`, `Proxy-*` or a registered `Proxy` field without separator. `Proxying` is
/// none.
fn is_proxy_field(name: &[u8], folded: &Folded) -> bool {
    folded.starts_with(b"proxy")
        && (PROXY.contains(&folded.as_bytes()) || has_separator_after_proxy(name))
}

/// Whether the first letters and digits of a name, `proxy`, end before another character.
fn has_separator_after_proxy(name: &[u8]) -> bool {
    let mut letters = 0;
    let next = name.iter().find(|byte| {
        letters += usize::from(byte.is_ascii_alphanumeric());
        letters > 5 || (letters == 5 && !byte.is_ascii_alphanumeric())
    });
    next.is_some_and(|byte| !byte.is_ascii_alphanumeric())
}

/// Whether `name` equals `field` without case and with `_` for `-`.
fn reads_as(name: &[u8], field: &str) -> bool {
    name.len() == field.len()
        && name.iter().zip(field.as_bytes()).all(|(byte, wanted)| {
            byte.eq_ignore_ascii_case(wanted) || (*byte == b'_' && *wanted == b'-')
        })
}

/// The letters and digits of a name, in lower case. On the stack: every name of every request is folded.
struct Folded {
    bytes: [u8; MAX_FOLDED],
    length: usize,
}

impl Folded {
    fn new(name: &[u8]) -> Self {
        let mut folded = Self {
            bytes: [0; MAX_FOLDED],
            length: 0,
        };
        let kept = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
        for (slot, byte) in folded.bytes.iter_mut().zip(kept) {
            *slot = byte.to_ascii_lowercase();
            folded.length += 1;
        }
        folded
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn starts_with(&self, prefix: &[u8]) -> bool {
        self.as_bytes().starts_with(prefix)
    }
}

/// Longer than every folded name in the lists below, so that a cut name equals none of them.
const MAX_FOLDED: usize = 32;

const COMMON: [&str; 9] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
    "x-request-id",
];

/// Folded. Besides `x-forwarded-*` and `proxy-*`, the fields from which CDNs, load balancers and frameworks
/// take the client's address.
const IDENTITY: [&[u8]; 7] = [
    b"cfconnectingip",
    b"clientip",
    b"forwarded",
    b"trueclientip",
    b"xclientip",
    b"xclusterclientip",
    b"xrealip",
];

/// Folded. `Proxy` becomes HTTP_PROXY in CGI (CVE-2016-5385); the others are registered with IANA.
const PROXY: [&[u8]; 7] = [
    b"proxy",
    b"proxyauthenticate",
    b"proxyauthenticationinfo",
    b"proxyauthorization",
    b"proxyconnection",
    b"proxyfeatures",
    b"proxystatus",
];

/// Folded. The fields of [`ACTED_ON`] that decide about framing, routing, authentication or identity.
const SENSITIVE: [&[u8]; 12] = [
    b"authorization",
    b"connection",
    b"contentencoding",
    b"contentlength",
    b"expect",
    b"forwarded",
    b"host",
    b"te",
    b"trailer",
    b"transferencoding",
    b"upgrade",
    b"xrealip",
];

/// The fields that decide about framing, routing, authentication, caching or the form of the content.
const ACTED_ON: [&str; 24] = [
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "traceparent",
    "tracestate",
    "upgrade",
    "via",
    "x-real-ip",
    "x-request-id",
];

const ACTED_ON_PREFIXES: [&str; 3] = ["proxy-", "x-forwarded", "x-gateway-"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_read_as_a_sensitive_one_are_look_alikes() {
        for name in [
            "Transfer_Encoding",
            "Transfer---Encoding",
            "Transfer___Encoding",
            "Transfer-Encoding-",
            "-Transfer-Encoding",
            "TransferEncoding",
            "transfer.encoding",
            "Content--Length",
            "ContentLength",
            "Ho-st",
            "Host_",
            "T-E",
            "Author-ization",
            "X--Forwarded-For",
            "XForwardedFor",
            "X_Forwarded_Anything",
            "X-Forwarded-My_Own",
            "X-Real_IP",
            "XGatewayError",
            "X-Gateway_Error",
            "Proxy_Authorization",
            "ProxyAuthorization",
            "proxy.anything",
            "P-roxy-",
            "Cache_Control",
            "X_Request_Id",
        ] {
            assert!(is_look_alike(name.as_bytes()), "{name}");
            assert!(!is_allowed_in_trailers(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn other_names_are_no_look_alikes() {
        let exact = ACTED_ON.into_iter().chain([
            "X-Forwarded-For",
            "X-Forwarded",
            "X-Forwarded--For",
            "Proxy-Authorization",
            "X-Gateway-Error",
        ]);
        for name in exact {
            assert!(!is_look_alike(name.as_bytes()), "{name}");
            assert!(!is_allowed_in_trailers(name.as_bytes()), "{name}");
        }
        for name in [
            "Accept",
            "User-Agent",
            "X-RequestId",
            "Proxying",
            "ContentType",
            "Hosts",
            "X-Host",
            "Content-Length-Hint",
            "Date",
            "x_custom",
            &"a-".repeat(40),
            "",
        ] {
            assert!(!is_look_alike(name.as_bytes()), "{name}");
            assert!(is_allowed_in_trailers(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_common_names_are_only_passed_over() {
        for name in COMMON {
            assert!(!reads_as_another(name.as_bytes()), "{name}");
            let folded = Folded::new(name.as_bytes());
            assert!(!IDENTITY.contains(&folded.as_bytes()), "{name}");
        }
    }

    #[test]
    fn an_identity_field_is_one_in_every_spelling() {
        for name in [
            "X-Forwarded-For",
            "x_forwarded_for",
            "XForwardedProto",
            "X-Forwarded",
            "Forwarded",
            "For-warded",
            "X-RealIP",
            "x--real--ip",
            "TrueClientIP",
            "CF_Connecting_IP",
            "Proxy",
            "proxy_magic",
            "Proxy-Authorization",
        ] {
            assert!(is_identity(name), "{name}");
        }
        for name in ["X-Client", "Client-IP-Hint", "Proxying", "Host", "X-Real"] {
            assert!(!is_identity(name), "{name}");
        }
    }
}
