//! How the cost grows with what a gateway has to hold: accounts, nodes, connections, answers. Each
//! gateway is a process of its own on a processor of its own; its CPU time and memory are the
//! kernel's figures. Rounds are short and interleaved, and the best of each is shown: other work on
//! the machine only ever adds.
//!
//! `cargo bench --bench growth`, about two minutes; `-- --quick` shows only that it works.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a bench fails by panicking, prints, is at the edge where clocks and tasks are, and shares its parts with others"
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
        accounts::measure(&stage).await;
        cluster::measure(&stage).await;
        memory::connections(&stage).await;
        memory::entries(&stage).await;
        start::measure(&stage).await;
        rotation::measure(&stage).await;
    });
}

/// What all measurements share.
struct Stage {
    effort: Effort,
    cpus: Cpus,
    site: Site,
    dialer: Dialer,
}

impl Stage {
    fn new(effort: Effort) -> Self {
        // Before any thread is started, so that all are kept to their processors.
        let cpus = Cpus::share_out();
        let site = Site::new();
        Self {
            dialer: Dialer::new(&site),
            effort,
            cpus,
            site,
        }
    }

    /// The least CPU per request that each lane needed in any of several rounds, after one round
    /// that warms it up; in microseconds.
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

/// One line of the table.
fn row(cost: &str, with: &str, is: &str) {
    println!("| {cost} | {with} | {is} |");
}

/// A number as people write it: `100,000`.
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
