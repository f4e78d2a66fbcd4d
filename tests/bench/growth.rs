//! Cost by the number of accounts, nodes, connections and cached responses. Each gateway is a
//! process of its own on a CPU of its own; CPU time and memory are the kernel's figures. Rounds are
//! short and interleaved, and the best of each is shown: other load on the machine only adds.
//!
//! `cargo bench --bench growth`, about two minutes; `-- --quick` shows only that it works, and
//! names (`accounts`, `cluster`, `memory`, `start`, `key_changes`, `rotation`) select measurements.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a bench fails by panicking, prints, uses clocks and tasks, and shares parts with other benches"
)]

mod asked;
mod cpu;
mod load;
mod node;
mod process;
mod site;

#[path = "growth/accounts.rs"]
mod accounts;
#[path = "growth/cluster.rs"]
mod cluster;
#[path = "growth/key_changes.rs"]
mod key_changes;
#[path = "growth/memory.rs"]
mod memory;
#[path = "growth/rotation.rs"]
mod rotation;
#[path = "growth/start.rs"]
mod start;

use asked::{Effort, asked};
use cpu::Cpus;
use load::{Dialer, Lane, Round};
use site::Site;

fn main() {
    let Some(effort) = asked() else { return };
    let stage = Stage::new(effort);
    println!("One worker; {}\n", cpu::model());
    println!("| cost | with | is |\n|---|---|---|");
    stage.cpus.runtime().block_on(async {
        if is_selected("accounts") {
            accounts::measure(&stage).await;
        }
        if is_selected("cluster") {
            cluster::measure(&stage).await;
        }
        if is_selected("memory") {
            memory::connections(&stage).await;
            memory::entries(&stage).await;
        }
        if is_selected("start") {
            start::measure(&stage).await;
        }
        if is_selected("key_changes") {
            key_changes::measure(&stage).await;
        }
        if is_selected("rotation") {
            rotation::measure(&stage).await;
        }
    });
}

/// Whether a measurement is one of those that the arguments name, or all are wanted.
fn is_selected(name: &str) -> bool {
    let mut names = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    names.peek().is_none() || names.any(|selected| selected == name)
}

/// Shared state of all measurements.
struct Stage {
    effort: Effort,
    cpus: Cpus,
    site: Site,
    dialer: Dialer,
}

impl Stage {
    fn new(effort: Effort) -> Self {
        // Before any thread is started, so that all threads are pinned.
        let cpus = Cpus::share_out();
        let site = Site::new();
        Self {
            dialer: Dialer::new(&site),
            effort,
            cpus,
            site,
        }
    }

    /// The lowest CPU time per request in microseconds that each lane needed in several rounds,
    /// after one warm-up round.
    async fn best(&self, lanes: &mut [Lane]) -> Vec<f64> {
        let (rounds, time) = self.effort.choose((30, 300), (1, 100));
        let time = std::time::Duration::from_millis(time);
        for lane in lanes.iter_mut() {
            lane.round(time).await;
        }
        let mut all = vec![Vec::new(); lanes.len()];
        for round in 0..rounds {
            for place in 0..lanes.len() {
                let place = (place + round) % lanes.len();
                all[place].push(lanes[place].round(time).await);
            }
        }
        all.iter()
            .map(|rounds| load::best(rounds.iter(), Round::per_request).per_request())
            .collect()
    }
}

/// Prints one row of the table.
fn row(cost: &str, with: &str, is: &str) {
    println!("| {cost} | {with} | {is} |");
}

/// Formats a number with thousands separators: `100,000`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
