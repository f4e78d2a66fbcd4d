//! `[cache]`, `[limits]`, `[server]`; and rates.

use std::time::Duration;

use super::{
    KIB, MIB, MINUTE, SECOND, duration_or, nonzero_duration_or, nonzero_size_or, size_or, value_or,
};
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, Setting};
use crate::config::spanned::Spanned;
use crate::config::units::{ByteSize, ConfigDuration};
use crate::config::{Cache, Limits, Period, Rate, Server};
use crate::escape;

pub(super) fn cache(file: &file::Cache, diagnostics: &mut Diagnostics) -> Cache {
    // A default is adjusted to the other key of a pair.
    let written = |key: &Setting<ConfigDuration>| key.as_ref().map(|key| key.0);
    let margin = (10 * MINUTE).max(written(&file.minimum_life).unwrap_or_default());
    let minimum = MINUTE.min(written(&file.expiry_margin).unwrap_or(MINUTE));
    let cache = Cache {
        max_size: size_or(&file.max_size, 64 * MIB),
        expiry_margin: duration_or(&file.expiry_margin, margin),
        minimum_life: duration_or(&file.minimum_life, minimum),
        stale_if_error: value_or(&file.stale_if_error, true),
        negative_ttl: duration_or(&file.negative_ttl, 2 * SECOND),
        success_codes: codes(&file.success_codes, &["0"]),
        max_wait: duration_or(&file.max_wait, 30 * SECOND),
        max_waiters: value_or(&file.max_waiters, 1_024),
        max_polls: value_or(&file.max_polls, 50),
    };
    if cache.minimum_life > cache.expiry_margin
        && let Some(written) = file.minimum_life.as_ref().or(file.expiry_margin.as_ref())
    {
        let margin = ConfigDuration::format(cache.expiry_margin);
        diagnostics.error(
            written.span(),
            "minimum_life is longer than expiry_margin",
            format!("minimum_life must be at most expiry_margin, \"{margin}\""),
        );
    }
    if let Some(written) = &file.success_codes
        && written.is_empty()
    {
        diagnostics.error(
            written.span(),
            "no code means success",
            "must name at least one resultCode, such as \"0\"",
        );
    }
    cache
}

pub(super) fn limits(file: &file::Limits, diagnostics: &mut Diagnostics) -> Limits {
    let clock_window = duration_or(&file.clock_window, 15 * MINUTE);
    let [max_body_size, max_upload_size, max_buffered] = body_sizes(file, diagnostics);
    let limits = Limits {
        clock_window: (!clock_window.is_zero()).then_some(clock_window),
        hits_are_free: value_or(&file.hits_are_free, true),
        dry_run: value_or(&file.dry_run, false),
        ratelimit_fields: value_or(&file.ratelimit_fields, Default::default()),
        per_address: rate(
            || "limits.per_address".to_owned(),
            file.per_address.as_ref(),
            diagnostics,
        )
        .unwrap_or(Rate::per_second(20, 200)),
        max_in_flight: value_or(&file.max_in_flight, 10_000),
        max_connections: value_or(&file.max_connections, 10_000),
        max_connections_per_address: value_or(&file.max_connections_per_address, 1_024),
        max_handshakes: value_or(&file.max_handshakes, 4_096),
        max_body_size,
        max_upload_size,
        max_buffered,
        max_answer: memory_size_or(&file.max_answer, MIB, diagnostics),
        body_timeout: nonzero_duration_or(&file.body_timeout, 10 * SECOND, diagnostics),
        header_timeout: nonzero_duration_or(&file.header_timeout, 10 * SECOND, diagnostics),
        handshake_timeout: nonzero_duration_or(&file.handshake_timeout, 10 * SECOND, diagnostics),
        idle_timeout: nonzero_duration_or(&file.idle_timeout, MINUTE, diagnostics),
        max_connection_age: nonzero_duration_or(&file.max_connection_age, 60 * MINUTE, diagnostics),
        min_send_rate: nonzero_size_or(&file.min_send_rate, 4 * KIB, diagnostics),
        send_rate_window: nonzero_duration_or(&file.send_rate_window, 30 * SECOND, diagnostics),
        min_receive_rate: nonzero_size_or(&file.min_receive_rate, 4 * KIB, diagnostics),
        max_header_size: memory_size_or(&file.max_header_size, 32 * KIB, diagnostics),
        max_header_fields: value_or(&file.max_header_fields, 100),
        max_concurrent_streams: value_or(&file.max_concurrent_streams, 128),
        http2_max_resets: value_or(&file.http2_max_resets, 64),
        http2_stream_window: http2_window(&file.http2_stream_window, 128 * KIB, diagnostics),
        http2_connection_window: http2_window(
            &file.http2_connection_window,
            512 * KIB,
            diagnostics,
        ),
        http2_ping_interval: nonzero_duration_or(
            &file.http2_ping_interval,
            20 * SECOND,
            diagnostics,
        ),
        http2_goaway_timeout: nonzero_duration_or(
            &file.http2_goaway_timeout,
            10 * SECOND,
            diagnostics,
        ),
        max_discarded: nonzero_size_or(&file.max_discarded, 64 * KIB, diagnostics),
        linger_timeout: nonzero_duration_or(&file.linger_timeout, SECOND, diagnostics),
    };
    check_limits(file, &limits, diagnostics);
    limits
}

/// Returns `max_body_size`, `max_upload_size` and `max_buffered`. The default of one is adjusted to a
/// written value of another: the largest body fits into the buffer of all.
fn body_sizes(file: &file::Limits, diagnostics: &mut Diagnostics) -> [usize; 3] {
    let written = |key: &Setting<ByteSize>| key.as_ref().map(|key| key.0);
    let buffered = written(&file.max_buffered).unwrap_or(u64::MAX);
    let bodies = [&file.max_body_size, &file.max_upload_size].map(|key| written(key).unwrap_or(0));
    let largest_body = bodies.into_iter().max().unwrap_or(0);
    [
        (&file.max_body_size, (64 * KIB).min(buffered)),
        (&file.max_upload_size, (8 * MIB).min(buffered)),
        (&file.max_buffered, (256 * MIB).max(largest_body)),
    ]
    .map(|(key, default)| memory_size_or(key, default, diagnostics))
}

/// Checks relations between limits: the largest body must fit into `max_buffered`.
fn check_limits(file: &file::Limits, limits: &Limits, diagnostics: &mut Diagnostics) {
    for (name, size, key) in [
        ("max_body_size", limits.max_body_size, &file.max_body_size),
        (
            "max_upload_size",
            limits.max_upload_size,
            &file.max_upload_size,
        ),
    ] {
        if size > limits.max_buffered
            && let Some(written) = key.as_ref().or(file.max_buffered.as_ref())
        {
            let most = ByteSize::format(limits.max_buffered as u64);
            diagnostics.error(
                written.span(),
                format!("{name} is larger than max_buffered"),
                format!("{name} must be at most max_buffered, \"{most}\""),
            );
        }
    }
    if limits.max_header_size < MIN_HEAD_SIZE
        && let Some(written) = &file.max_header_size
    {
        diagnostics.error(
            written.span(),
            "too small for an ordinary request head",
            "must be at least \"1KiB\"",
        );
    }
    if limits.max_header_size > MAX_HEAD_SIZE
        && let Some(written) = &file.max_header_size
    {
        diagnostics.error(
            written.span(),
            "too large for an HTTP/2 request head",
            "must be at most \"64KiB\"",
        );
    }
    if limits.max_connections_per_address > limits.max_connections
        && let Some(written) = &file.max_connections_per_address
    {
        diagnostics.warning(
            written.span(),
            "larger than max_connections",
            "has no effect",
        );
    }
}

pub(super) fn server(file: &file::Server, diagnostics: &mut Diagnostics) -> Server {
    if let Some(written) = &file.name
        && !is_instance_name(written)
    {
        diagnostics.error(
            written.span(),
            "cannot be the name of an instance",
            "must be 1 to 64 visible characters, blanks inside allowed, such as \"gw-1\"",
        );
    }
    // Takes the CPU quota of the cgroup into account.
    let usable_cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    Server {
        name: file
            .name
            .as_ref()
            .map_or_else(host_name, |key| key.value.clone()),
        workers: file
            .workers
            .as_ref()
            .map_or_else(usable_cpus, |key| key.value),
        drain_delay: duration_or(&file.drain_delay, Duration::ZERO),
        grace: duration_or(&file.grace, 30 * SECOND),
    }
}

/// Whether a text can name an instance where people read it.
fn is_instance_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=MAX_INSTANCE_NAME).contains(&length)
        && name.trim() == name
        && !name.contains(escape::is_unsafe)
}

/// Returns the host's name as the kernel has it.
fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    if is_instance_name(&name) {
        name.into_owned()
    } else {
        "ccfs-gateway".to_owned()
    }
}

/// Returns the rate under `key`, which has exactly one period.
pub(super) fn rate(
    key: impl FnOnce() -> String,
    file: Option<&Spanned<file::Rate>>,
    diagnostics: &mut Diagnostics,
) -> Option<Rate> {
    let file = file?;
    let periods = [
        (Period::Second, file.per_second),
        (Period::Minute, file.per_minute),
        (Period::Hour, file.per_hour),
    ];
    let mut written = periods
        .into_iter()
        .filter_map(|(period, requests)| Some((period, requests?)));
    let Some((period, requests)) = written.next() else {
        let key = key();
        let is_reported = |(period, _): &(Period, _)| diagnostics.is_reported(&key, period.key());
        if !periods.iter().any(is_reported) {
            diagnostics.error(
                file.span(),
                "a rate without per_second, per_minute or per_hour",
                "must be { per_second = 50, burst = 100 }; burst may be left out",
            );
        }
        return None;
    };
    if let Some((second, _)) = written.next() {
        let message = format!("a rate with both {} and {}", period.key(), second.key());
        let help = "must have one of per_second, per_minute and per_hour";
        diagnostics.error(file.span(), message, help);
        return None;
    }
    let rate = Rate::with_default_burst(requests, period);
    let burst = file.burst.unwrap_or(rate.burst);
    Some(Rate { burst, ..rate })
}

/// Returns the listed codes, or the default ones.
pub(super) fn codes(file: &Option<Spanned<Vec<String>>>, default: &[&str]) -> Vec<String> {
    match file {
        Some(codes) => codes.value.clone(),
        None => default.iter().map(|code| (*code).to_owned()).collect(),
    }
}

/// Like `nonzero_size_or`, as `usize`.
fn memory_size_or(
    key: &Option<Spanned<ByteSize>>,
    default: u64,
    diagnostics: &mut Diagnostics,
) -> usize {
    usize::try_from(nonzero_size_or(key, default, diagnostics)).unwrap_or(usize::MAX)
}

/// Returns an HTTP/2 flow-control window. It must be below 2³¹ (RFC 9113, 6.9.1); below the protocol's
/// default of 64 KiB − 1 an ordinary request would have to wait for WINDOW_UPDATE.
fn http2_window(
    key: &Option<Spanned<ByteSize>>,
    default: u64,
    diagnostics: &mut Diagnostics,
) -> u32 {
    let size = nonzero_size_or(key, default, diagnostics);
    if let Some(written) = key
        && !(64 * KIB..=1 << 30).contains(&size)
    {
        diagnostics.error(
            written.span(),
            "out of range for an HTTP/2 window",
            "must be from \"64KiB\" to \"1GiB\"",
        );
    }
    u32::try_from(size).unwrap_or(u32::MAX >> 1)
}

/// Characters of the name of an instance; a label of DNS has 63 at most (RFC 1035, 2.3.4).
const MAX_INSTANCE_NAME: usize = 64;

/// A request line, Host and an auth-v2 Authorization take about half of it.
const MIN_HEAD_SIZE: usize = 1 << 10;

/// Above it h2 rejects the request itself, without the gateway's error response.
const MAX_HEAD_SIZE: usize = 64 << 10;
