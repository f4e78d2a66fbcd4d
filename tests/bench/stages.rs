//! Time and allocations of each stage of a request, without sockets.
//!
//! `cargo bench --bench stages`; an argument filters, e.g. `cargo bench --bench stages -- hit`.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    reason = "a bench fails by panicking, uses clocks, and shares parts with other benches"
)]

#[path = "stages/parts.rs"]
mod parts;
mod site;
#[path = "stages/whole.rs"]
mod whole;

/// The program's allocator, with counters.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler<tikv_jemallocator::Jemalloc> =
    divan::AllocProfiler::new(tikv_jemallocator::Jemalloc);

#[cfg(not(feature = "jemalloc"))]
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    // Enough samples that other load on the machine does not show in minimum and median.
    divan::Divan::default()
        .sample_count(1_000)
        .sample_size(32)
        .config_with_args()
        .main();
}
