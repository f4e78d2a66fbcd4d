//! Listeners: addresses, routes, certificates; and the admin listener.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use super::tls::TlsFiles;
use super::{arc_str, crls, playback, ticket_keys, value_or};
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName, File};
use crate::config::permissions::warn_if_readable_by_others;
use crate::config::spanned::Spanned;
use crate::config::suggestion::suggest;
use crate::config::{
    Admin, AdminToken, CertificateFiles, Config, Listener, ListenerTls, UnknownPaths,
};

/// Returns all valid listeners; a file without any listener is an error.
pub(super) fn resolve(
    file: &File,
    tls_files: &mut TlsFiles,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<Arc<str>, Listener> {
    if file.listeners.is_empty() {
        diagnostics.missing_key(
            "listeners",
            0..0,
            "no listener",
            "needs at least one [listeners.NAME] with bind, cluster and tls",
        );
    }
    let mut listeners = BTreeMap::new();
    for (name, table) in &file.listeners {
        let key = |key: &str| format!("listeners.{}.{key}", name.value);
        if table.bind.is_none() {
            diagnostics.missing_key(
                &key("bind"),
                name.span(),
                "no bind",
                "needs bind = \"0.0.0.0:28443\"",
            );
        }
        if table.tls.is_none() {
            diagnostics.missing_key(
                &key("tls"),
                name.span(),
                "no tls",
                "needs tls = { certificate = \"…\", private_key = \"…\" }",
            );
        }
        let bind = table
            .bind
            .as_ref()
            .and_then(|bind| parse_bind(bind, diagnostics));
        let routes = routes(name, table, &file.clusters, diagnostics);
        let tls = table
            .tls
            .as_ref()
            .and_then(|tls| listener_tls(tls, tls_files, diagnostics));
        let proxy_protocol = proxy_protocol(table.proxy_protocol.as_ref(), diagnostics);
        let ticket_keys = ticket_keys::read(table.ticket_key_file.as_ref(), diagnostics);
        let playback = playback::resolve(table, &routes, diagnostics);
        warn_of_unused_tickets(table, diagnostics);
        if let (Some(bind), Some(tls), Some(ticket_keys)) = (bind, tls, ticket_keys) {
            let listener = Listener {
                bind,
                routes,
                tls,
                authentication: value_or(&table.authentication, Default::default()),
                unknown_clients: value_or(&table.unknown_clients, Default::default()),
                unknown_paths: value_or(&table.unknown_paths, Default::default()),
                is_forward_written: (table.unknown_paths.as_ref())
                    .is_some_and(|it| it.value == UnknownPaths::Forward),
                validation: value_or(&table.validation, Default::default()),
                playback,
                proxy_protocol,
                ticket_keys: ticket_keys.keys,
                ticket_key_since: ticket_keys.since,
            };
            listeners.insert(arc_str(name), listener);
        }
    }
    listeners
}

/// Warns of ticket keys where no session is resumed.
fn warn_of_unused_tickets(table: &file::Listener, diagnostics: &mut Diagnostics) {
    let requests_certificates = table
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    if let Some(files) = table
        .ticket_key_file
        .as_ref()
        .filter(|_| requests_certificates)
    {
        diagnostics.warning(
            files.span(),
            "ticket_key_file has no use with client_ca",
            "should be left out: a resumed session would skip the client's certificate",
        );
    }
}

/// Resolves the admin listener; any address but loopback requires a token.
pub(super) fn admin(
    file: &file::Admin,
    tls_files: &mut TlsFiles,
    diagnostics: &mut Diagnostics,
) -> Admin {
    let token = file
        .token_file
        .as_ref()
        .and_then(|path| read_token(path, diagnostics));
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9901));
    let bind = match &file.bind {
        None => Some(default),
        Some(off) if off.as_str() == "off" => None,
        Some(written) => parse_bind(written, diagnostics),
    };
    if let (Some(bind), Some(written), None) = (bind, &file.bind, &file.token_file)
        && !bind.ip().is_loopback()
    {
        diagnostics.missing_key(
            "admin.token_file",
            written.span(),
            "an admin address that others can reach, without a token",
            "needs token_file, or a loopback address",
        );
    }
    Admin {
        bind,
        token,
        tls: file
            .tls
            .as_ref()
            .and_then(|tls| listener_tls(tls, tls_files, diagnostics)),
    }
}

/// Reports listeners on the address of another one: the second would fail to bind.
pub(super) fn check_addresses(file: &File, config: &Config, diagnostics: &mut Diagnostics) {
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    let listeners = file.listeners.iter().filter_map(|(name, table)| {
        let bind = config.listeners.get(name.as_str())?.bind;
        Some((
            bind,
            table.bind.as_ref()?.span(),
            format!("listener {}", name.value),
        ))
    });
    let admin_place = file.admin.bind.as_ref().map(Spanned::span);
    let admin = config.admin.bind.map(|bind| {
        (
            bind,
            admin_place.unwrap_or(0..0),
            "the admin listener".to_owned(),
        )
    });
    let mut all: Vec<_> = listeners.chain(admin).collect();
    all.sort_by_key(|(_, span, _)| span.start);
    for (bind, span, who) in all {
        match taken
            .iter()
            .find(|(other, _)| addresses_overlap(*other, bind))
        {
            Some((other, whose)) => {
                diagnostics.error(
                    span,
                    format!("{who} on the address of {whose}"),
                    format!("must be another address than {other}"),
                );
            }
            None => taken.push((bind, who)),
        }
    }
}

/// Whether both addresses cannot be bound at the same time. `[::]` accepts IPv4 as well (Linux, with its
/// default of `net.ipv6.bindv6only`), so that it overlaps every address.
fn addresses_overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let same_host = one == other || covers(one, other) || covers(other, one);
    a.port() != 0 && a.port() == b.port() && same_host
}

/// Parses an address with a port.
fn parse_bind(written: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<SocketAddr> {
    let parsed = written.parse().ok();
    if parsed.is_none() {
        diagnostics.error(
            written.span(),
            "not an address and port",
            "must be such as \"0.0.0.0:28443\" or \"[::]:28443\"",
        );
    }
    parsed
}

/// Returns the path prefixes with their clusters, longest first.
fn routes(
    name: &Spanned<String>,
    table: &file::Listener,
    clusters: &ByName<file::Cluster>,
    diagnostics: &mut Diagnostics,
) -> Vec<(String, Arc<str>)> {
    let key = |key: &str| format!("listeners.{}.{key}", name.value);
    let mut routes = Vec::new();
    match (&table.cluster, &table.routes) {
        (Some(_), Some(both)) => diagnostics.error(
            both.span(),
            "both cluster and routes",
            "must be one of them: cluster is the one route \"/\"",
        ),
        (Some(cluster), None) => {
            check_cluster_name(cluster, clusters, diagnostics);
            routes.push(("/".to_owned(), arc_str(cluster)));
        }
        (None, Some(written)) => {
            if written.is_empty() {
                diagnostics.missing_key(
                    &key("routes"),
                    written.span(),
                    "no routes",
                    "needs at least one, such as \"/CCFS/\" = \"ccfs\"",
                );
            }
            for (prefix, cluster) in &written.value {
                check_prefix(prefix, diagnostics);
                check_cluster_name(cluster, clusters, diagnostics);
                routes.push((prefix.value.clone(), arc_str(cluster)));
            }
        }
        (None, None) => {
            if !diagnostics.already_reported.contains(&key("routes")) {
                diagnostics.missing_key(
                    &key("cluster"),
                    name.span(),
                    "no cluster",
                    "needs cluster = \"…\", or routes = { \"/CCFS/\" = \"…\" }",
                );
            }
        }
    }
    routes.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    routes
}

/// Reports a cluster that does not exist.
fn check_cluster_name(
    cluster: &Spanned<String>,
    clusters: &ByName<file::Cluster>,
    diagnostics: &mut Diagnostics,
) {
    let names = || clusters.keys().map(|name| name.as_str());
    if names().any(|name| name == cluster.as_str())
        || diagnostics
            .already_reported
            .contains(&format!("clusters.{}", cluster.value))
    {
        return;
    }
    let help = match suggest(cluster, names()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None if clusters.is_empty() => format!("needs a [clusters.{}]", cluster.value),
        None => format!("known are: {}", names().collect::<Vec<_>>().join(", ")),
    };
    diagnostics.error(cluster.span(), "unknown cluster", help);
}

/// Reports a prefix that can never match: routes match the raw request path, and paths that another
/// server could read as a different one are rejected with 400 before that.
fn check_prefix(prefix: &Spanned<String>, diagnostics: &mut Diagnostics) {
    let help = if !prefix.starts_with('/') {
        "must begin with /"
    } else if !prefix.ends_with('/') {
        "must end with /"
    } else if !prefix.bytes().all(is_path_byte) {
        "must hold only characters of a URL's path, without a query; others are written as %20"
    } else if !has_valid_escapes(prefix) {
        "must hold only whole escapes such as %20, and none of / \\ and NUL: such paths are rejected"
    } else if prefix.contains("//") || prefix.split('/').any(is_dot_segment) {
        "must be without empty parts, . and .."
    } else {
        return;
    };
    diagnostics.error(prefix.span(), "not a path prefix", help);
}

/// A `pchar` of RFC 3986, 3.3, a slash or `%`; no `;`, which begins the parameters of a segment.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/%-._~!$&'()*+,=:@".contains(&byte)
}

/// Whether each `%` begins an escape, and none stands for a slash, a backslash or NUL.
fn has_valid_escapes(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let code = rest.get(..2).unwrap_or_default();
        let is_hex = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex
            && !["2f", "5c", "00"]
                .iter()
                .any(|it| code.eq_ignore_ascii_case(it))
    })
}

/// Whether a segment is `.` or `..`, each dot plain or escaped.
fn is_dot_segment(segment: &str) -> bool {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    plain == "." || plain == ".."
}

fn listener_tls(
    tls: &Spanned<file::ListenerTls>,
    tls_files: &mut TlsFiles,
    diagnostics: &mut Diagnostics,
) -> Option<ListenerTls> {
    let pairs = certificate_pairs(tls, diagnostics);
    let mut certificates = Vec::new();
    let mut files = Vec::new();
    for (certificate, private_key) in &pairs {
        if let Some(loaded) = tls_files.certificate(certificate, private_key, diagnostics) {
            certificates.push(loaded);
            files.push(CertificateFiles {
                certificate: diagnostics.resolve_path(certificate),
                private_key: diagnostics.resolve_path(private_key),
            });
        }
    }
    if let (Some(client_auth), None) = (&tls.client_auth, &tls.client_ca) {
        diagnostics.error(
            client_auth.span(),
            "client_auth without client_ca",
            "needs client_ca, the authorities of client certificates",
        );
    }
    if let (Some(crl), None) = (&tls.client_crl, &tls.client_ca) {
        diagnostics.error(
            crl.span(),
            "client_crl without client_ca",
            "needs client_ca, the authorities whose certificates it revokes",
        );
    }
    // A listener whose client_ca or client_crl cannot be read must not start without it.
    let (mut client_ca, mut client_crls) = (None, Vec::new());
    if let Some(ca) = &tls.client_ca {
        let authorities = tls_files.authorities(ca, diagnostics)?;
        if let Some(crl) = &tls.client_crl {
            client_crls = crls::read(crl, ca, &authorities, tls_files.now, diagnostics)?;
        }
        client_ca = Some(Arc::new(authorities));
    }
    (!certificates.is_empty()).then(|| ListenerTls {
        certificates,
        certificate_files: files,
        client_ca,
        client_crls,
        client_auth: value_or(&tls.client_auth, Default::default()),
    })
}

/// Returns the pairs of files, from either syntax.
fn certificate_pairs<'a>(
    tls: &'a Spanned<file::ListenerTls>,
    diagnostics: &mut Diagnostics,
) -> Vec<(&'a Spanned<String>, &'a Spanned<String>)> {
    let mut pairs = Vec::new();
    let mut add = |certificate: &'a file::Setting<String>,
                   private_key: &'a file::Setting<String>,
                   span: &Range<usize>,
                   diagnostics: &mut Diagnostics| {
        match (certificate, private_key) {
            (Some(certificate), Some(private_key)) => pairs.push((certificate, private_key)),
            (Some(one), None) | (None, Some(one)) => diagnostics.error(
                one.span(),
                "half of a certificate and its key",
                "needs both certificate and private_key",
            ),
            (None, None) => diagnostics.error(
                span.clone(),
                "no certificate",
                "needs certificate and private_key",
            ),
        }
    };
    match &tls.certificates {
        Some(several) => {
            if tls.certificate.is_some() || tls.private_key.is_some() {
                diagnostics.error(
                    several.span(),
                    "both certificate and certificates",
                    "must be one of them",
                );
            }
            for pair in &several.value {
                add(
                    &pair.certificate,
                    &pair.private_key,
                    &pair.span,
                    diagnostics,
                );
            }
            if several.is_empty() {
                diagnostics.error(
                    several.span(),
                    "no certificate",
                    "needs at least one { certificate = \"…\", private_key = \"…\" }",
                );
            }
        }
        None => add(&tls.certificate, &tls.private_key, &tls.span, diagnostics),
    }
    pairs
}

fn proxy_protocol(
    table: Option<&Spanned<file::ProxyProtocol>>,
    diagnostics: &mut Diagnostics,
) -> Vec<IpNet> {
    let Some(table) = table else {
        return Vec::new();
    };
    let trusted = table
        .trusted
        .as_ref()
        .map_or(&[][..], |trusted| trusted.value.as_slice());
    if trusted.is_empty() {
        diagnostics.error(
            table.span(),
            "no network may send a PROXY header",
            "needs trusted = [\"10.0.0.0/8\"], or leave proxy_protocol out",
        );
    }
    let mut networks = Vec::new();
    for network in trusted {
        // A single address is a network of one address.
        let parsed = network
            .parse()
            .ok()
            .or_else(|| network.parse::<IpAddr>().ok().map(IpNet::from));
        match parsed {
            Some(network) => networks.push(network),
            None => diagnostics.error(
                network.span(),
                "not a network",
                "must be such as \"10.0.0.0/8\" or \"10.1.2.3\"",
            ),
        }
    }
    networks
}

/// Reads a token without the line end that editors append.
fn read_token(path: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<Arc<AdminToken>> {
    let bytes = diagnostics.read_secret_text(path, &path.span)?;
    warn_if_readable_by_others(path, &path.span, diagnostics);
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        diagnostics.error(
            path.span(),
            "no token in this file",
            "must hold one line of visible ASCII characters",
        );
        return None;
    }
    Some(Arc::new(AdminToken::new(token.to_owned())))
}
