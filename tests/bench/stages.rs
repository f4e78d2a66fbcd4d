//! What each stage of a request costs by itself, in time and in allocations, without a socket.
//!
//! `cargo bench --bench stages`; a word behind `--` chooses, e.g. `cargo bench --bench stages -- hit`.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    reason = "a bench fails by panicking, is at the edge where clocks are, and shares its parts with others"
)]

#[path = "stages/parts.rs"]
mod parts;
mod site;
#[path = "stages/whole.rs"]
mod whole;

/// The program's own allocator, counted.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler<tikv_jemallocator::Jemalloc> =
    divan::AllocProfiler::new(tikv_jemallocator::Jemalloc);

#[cfg(not(feature = "jemalloc"))]
#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    // So many that other work on the machine does not show in the fastest and the median.
    divan::Divan::default()
        .sample_count(1_000)
        .sample_size(32)
        .config_with_args()
        .main();
}
