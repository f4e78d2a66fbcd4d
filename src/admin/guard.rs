//! Access control of the admin interface: a known Host against DNS rebinding, the token, and for commands
//! the custom header and the same origin against CSRF. Pure: no I/O, no clock.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::config::AdminToken;

/// The access rules of one admin listener.
#[derive(Debug)]
pub(super) struct Guard {
    bound: SocketAddr,
    token: ArcSwapOption<AdminToken>,
}

impl Guard {
    pub(super) fn new(bound: SocketAddr, token: Option<Arc<AdminToken>>) -> Self {
        let token = ArcSwapOption::from(token);
        Self { bound, token }
    }

    /// Whether a token is required.
    pub(super) fn has_token(&self) -> bool {
        self.token.load().is_some()
    }

    /// Replaces the required token.
    pub(super) fn set_token(&self, token: Option<Arc<AdminToken>>) {
        self.token.store(token);
    }

    /// Checks a request that came over `http` or `https`, the `scheme`.
    ///
    /// # Errors
    /// The status and detail of the rejection.
    pub(super) fn check(
        &self,
        scheme: &str,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), (StatusCode, &'static str)> {
        let host = single_value(headers, header::HOST).unwrap_or_default();
        if !self.is_known_host(host) {
            // Stops DNS rebinding: a page whose host name resolves to this address.
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "this Host is not served here",
            ));
        }
        if method != Method::GET && method != Method::HEAD {
            check_command(scheme, host, headers)?;
        }
        let open = matches!(uri.path(), "/livez" | "/readyz");
        match &*self.token.load() {
            Some(token) if !open && !has_token(headers, token) => {
                let detail = if headers.contains_key(header::AUTHORIZATION) {
                    "the admin token was refused: it is not the one in the file of [admin] token_file"
                } else {
                    "an admin token is needed: the one in the file of [admin] token_file"
                };
                Err((StatusCode::UNAUTHORIZED, detail))
            }
            _ => Ok(()),
        }
    }

    /// Whether a Host is the bound address, a loopback address or `localhost`. With any port: port forwarding
    /// (`ssh -L`, `kubectl port-forward`, `docker -p`) changes it, DNS rebinding does not depend on it.
    fn is_known_host(&self, host: &str) -> bool {
        let (name, port) = split_host_port(host);
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return false;
        }
        match name.parse::<IpAddr>() {
            // Only names can be rebound, so a wildcard listener accepts every address.
            Ok(address) => {
                let bound = self.bound.ip();
                address.is_loopback() || address == bound || bound.is_unspecified()
            }
            Err(_) => name.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// Checks the custom header and the origin. Forms and cross-origin scripts cannot send the header
/// without a CORS preflight, which is rejected.
fn check_command(
    scheme: &str,
    host: &str,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, &'static str)> {
    if single_value(headers, "x-ccfs-gateway") != Some("1") {
        return Err((
            StatusCode::FORBIDDEN,
            "a command needs the header X-Ccfs-Gateway: 1",
        ));
    }
    // A present header must be valid text and occur once.
    let agrees = |name: header::HeaderName, is_ours: &dyn Fn(&str) -> bool| {
        !headers.contains_key(&name) || single_value(headers, name).is_some_and(is_ours)
    };
    let origin_is_ours = agrees(header::ORIGIN, &|origin| {
        let origin = origin.split_once("://");
        origin.is_some_and(|(origin_scheme, authority)| {
            let (name, port) = split_host_port(authority);
            let (own_name, own_port) = split_host_port(host);
            let default_port = if scheme == "https" { "443" } else { "80" };
            let port_or_default = |port: Option<&'_ str>| port.unwrap_or(default_port).to_owned();
            origin_scheme.eq_ignore_ascii_case(scheme)
                && name.eq_ignore_ascii_case(own_name)
                && port_or_default(port) == port_or_default(own_port)
        })
    });
    let site = header::HeaderName::from_static("sec-fetch-site");
    let site_is_ours = agrees(site, &|site| site == "same-origin" || site == "none");
    if origin_is_ours && site_is_ours {
        Ok(())
    } else {
        Err((
            StatusCode::FORBIDDEN,
            "commands are accepted from the same origin only",
        ))
    }
}

/// Whether a request carries the token: as Bearer (programs) or as the password of Basic (browsers).
fn has_token(headers: &HeaderMap, token: &AdminToken) -> bool {
    let Some(value) = single_value(headers, header::AUTHORIZATION) else {
        return false;
    };
    let Some((scheme, rest)) = value.split_once(' ') else {
        return false;
    };
    let rest = rest.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.matches(rest.as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(rest)
        .unwrap_or_default();
    let password = decoded
        .iter()
        .position(|&b| b == b':')
        .and_then(|at| decoded.get(at + 1..));
    password.is_some_and(|password| token.matches(password))
}

/// Splits a Host value into name (without brackets) and port.
fn split_host_port(host: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    }
}

/// Returns the value of a header that occurs exactly once and is text.
fn single_value(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "methods are constants here")]
    fn check(method: Method, path: &str, fields: &[(&'static str, &str)], token: bool) -> u16 {
        let guard = Guard::new(
            "127.0.0.1:9901".parse().unwrap(),
            token.then(|| Arc::new(AdminToken::new("s3cret".to_owned()))),
        );
        let headers = fields
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect();
        let uri = Uri::try_from(path).unwrap();
        guard
            .check("http", &method, &uri, &headers)
            .map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn only_known_hosts_are_served() {
        for (host, status) in [
            ("127.0.0.1:9901", 200),
            ("localhost:9901", 200),
            ("localhost", 200),
            ("[::1]:9901", 200),
            ("127.0.0.1:80", 200),
            ("localhost:18080", 200),
            ("[::1]:1", 200),
            ("localhost:", 421),
            ("localhost:x", 421),
            ("localhost:99999", 421),
            ("localhost:1:2", 421),
            ("evil.example", 421),
            ("evil.example:9901", 421),
            ("10.0.0.1:9901", 421),
            ("", 421),
        ] {
            assert_eq!(
                check(Method::GET, "/status", &[("host", host)], false),
                status,
                "{host}"
            );
        }
    }

    #[test]
    fn a_wildcard_is_reached_by_any_address_and_by_no_name() {
        let guard = Guard::new("0.0.0.0:9901".parse().unwrap(), None);
        for (host, known) in [
            ("10.0.0.1:9901", true),
            ("[fd00::1]:9901", true),
            ("10.0.0.1:80", true),
            ("10.0.0.1:x", false),
            ("evil.example:9901", false),
        ] {
            assert_eq!(guard.is_known_host(host), known, "{host}");
        }
    }

    #[test]
    fn commands_need_the_header_and_the_same_origin() {
        let host = ("host", "localhost:9901");
        let header = ("x-ccfs-gateway", "1");
        let post = |fields: &[(&'static str, &str)]| check(Method::POST, "/drain", fields, false);
        assert_eq!(post(&[host]), 403);
        assert_eq!(post(&[host, header]), 200);
        assert_eq!(
            post(&[host, header, ("origin", "http://localhost:9901")]),
            200
        );
        assert_eq!(
            post(&[host, header, ("origin", "http://evil.example")]),
            403
        );
        assert_eq!(post(&[host, header, ("origin", "null")]), 403);
        for (origin, status) in [
            ("HTTP://LOCALHOST:9901", 200),
            ("https://localhost:9901", 403),
            ("http://localhost:9902", 403),
            ("http://localhost", 403),
            ("http://127.0.0.1:9901", 403),
            ("localhost:9901", 403),
        ] {
            assert_eq!(
                post(&[host, header, ("origin", origin)]),
                status,
                "{origin}"
            );
        }
        let forwarded = [
            ("host", "localhost:8080"),
            header,
            ("origin", "http://localhost:8080"),
        ];
        assert_eq!(post(&forwarded), 200);
        let default_port = [
            ("host", "localhost:80"),
            header,
            ("origin", "http://localhost"),
        ];
        assert_eq!(post(&default_port), 200);
        assert_eq!(post(&[host, header, ("sec-fetch-site", "cross-site")]), 403);
    }

    #[test]
    fn over_tls_the_origin_is_https() {
        let guard = Guard::new("127.0.0.1:9901".parse().unwrap(), None);
        for (origin, allowed) in [("https://localhost", true), ("http://localhost", false)] {
            let headers = [
                ("host", "localhost:443"),
                ("x-ccfs-gateway", "1"),
                ("origin", origin),
            ];
            let headers = headers.map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            });
            let headers = HeaderMap::from_iter(headers);
            let result = guard.check(
                "https",
                &Method::POST,
                &Uri::from_static("/drain"),
                &headers,
            );
            assert_eq!(result.is_ok(), allowed, "{origin}");
        }
    }

    #[test]
    fn all_but_the_probes_need_the_token() {
        let host = ("host", "localhost:9901");
        let get =
            |path: &str, fields: &[(&'static str, &str)]| check(Method::GET, path, fields, true);
        assert_eq!(get("/livez", &[host]), 200);
        assert_eq!(get("/readyz", &[host]), 200);
        assert_eq!(get("/status", &[host]), 401);
        assert_eq!(
            get("/status", &[host, ("authorization", "Bearer s3cret")]),
            200
        );
        assert_eq!(
            get("/status", &[host, ("authorization", "Bearer s3cre")]),
            401
        );
        let basic = base64::engine::general_purpose::STANDARD.encode("any:s3cret");
        let basic = format!("Basic {basic}");
        assert_eq!(get("/status", &[host, ("authorization", &basic)]), 200);
    }
}
