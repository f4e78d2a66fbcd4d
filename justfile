# Steps of the project's check, each by itself, and what takes longer. `just` alone lists them.
# .ci/run has the commands and runs all steps of the first group without `just`.

_list:
    @just --list --unsorted

# Everything that must pass before a commit reaches the main branch.
[group('check')]
check:
    .ci/run

# Install the Debian packages that some tests need.
[group('check')]
packages:
    .ci/run packages

# Tests that need nothing but Rust, a C compiler and make.
[group('check')]
test:
    .ci/run tests

# Tests of the export of traces, which the default features leave out.
[group('check')]
test-otlp:
    .ci/run otlp

# Tests that need Debian packages: browser, Prometheus, Redis, systemd, strace, HTTP clients.
[group('check')]
test-packages: packages
    .ci/run tests_with_packages

# The bench beside nginx, briefly: what it counts at both ends, not its figures.
[group('check')]
benches: packages
    .ci/run benches

# The Debian package: built, examined, installed, used, removed. Needs root to be installed.
[group('check')]
package: packages
    .ci/run package

# The manifests and the Helm chart, by the schemas of Kubernetes.
[group('check')]
kubernetes:
    .ci/run kubernetes

# Formatting.
[group('check')]
format:
    .ci/run format

# Clippy; warnings are errors.
[group('check')]
lint:
    .ci/run lint

# Documentation of public and private items; warnings are errors.
[group('check')]
doc:
    .ci/run doc

# Licences, banned crates and sources; needs `cargo install --locked cargo-deny`.
[group('check')]
deny:
    .ci/run deny

# The demo: the main path with stand-in nodes.
[group('check')]
demo:
    .ci/run demo

# Known vulnerabilities of dependencies; downloads the advisory database.
[group('long')]
advisories:
    cargo deny --locked check advisories

# The picture of the status page in the README, in Chromium; four minutes.
[group('long')]
screenshot: packages
    README_PICTURE={{ justfile_directory() }}/deploy/images/status.png \
        cargo test --test gateway -- --ignored browser::screenshot

# Everything that is published, from a clean clone; needs what deploy/release says.
[group('long')]
release:
    deploy/release

# The profile for a profile-guided build, and that build; both need what deploy/profile says.
[group('long')]
profile:
    deploy/profile train

# The program as `deploy/profile train` has measured it, from its FILE.
[group('long')]
dist FILE:
    deploy/profile use {{ FILE }}

# Ten minutes of mixed node faults (CCFS_FAULT_MINUTES).
[group('long')]
fault-run:
    cargo test --release --test fault_run -- --ignored --nocapture

# Twenty minutes of load and malicious clients (CCFS_SOAK_MINUTES).
[group('long')]
soak:
    cargo test --release --test soak -- --ignored --nocapture

# Ten concurrent downloads of 1 GiB, and one.
[group('long')]
large-streams:
    cargo test --release --test gateway of_a_gibibyte -- --ignored --nocapture

# Playback at 8 KiB/s for 100 seconds.
[group('long')]
slow-playback:
    cargo test --lib playback_above_the_minimum_rate -- --ignored

# Fuzz one parser, e.g. `just fuzz request_head`; needs nightly Rust and cargo-fuzz.
[group('long')]
fuzz target seconds='600':
    cargo +nightly fuzz run --fuzz-dir tests/fuzz {{ target }} -- -max_total_time={{ seconds }}

# CPU, memory and start time; the last part needs an nginx on the PATH.
[group('long')]
bench:
    cargo bench --bench stages
    cargo bench --bench growth
    cargo bench --bench nginx
