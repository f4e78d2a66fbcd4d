//! The results as a Markdown table.

use crate::load::{self, Round};

/// One comparison.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: &'static str,
    nginx: Figures,
    gateway: Figures,
    /// The ratio of the gateway's CPU time to nginx's: the median of all rounds.
    ratio: f64,
}

#[derive(Clone, Debug)]
struct Figures {
    /// CPU time in microseconds in the best round.
    cpu: f64,
    /// The best round.
    best: Round,
}

impl Row {
    /// Compares by request.
    pub(crate) fn of(name: &'static str, rounds: &[[Round; 2]]) -> Self {
        Self::by(name, rounds, Round::per_request)
    }

    /// Compares by MiB of responses.
    pub(crate) fn per_mebibyte(name: &'static str, rounds: &[[Round; 2]]) -> Self {
        Self::by(name, rounds, Round::per_mebibyte)
    }

    fn by(name: &'static str, rounds: &[[Round; 2]], cost: fn(&Round) -> f64) -> Self {
        let best = |which: usize| {
            let all = rounds.iter().map(|both| &both[which]);
            let best = load::best(all, cost).clone();
            Figures {
                cpu: cost(&best),
                best,
            }
        };
        let mut ratios: Vec<f64> = rounds
            .iter()
            .map(|[nginx, gateway]| cost(gateway) / cost(nginx))
            .collect();
        ratios.sort_by(f64::total_cmp);
        Self {
            name,
            nginx: best(0),
            gateway: best(1),
            ratio: ratios[ratios.len() / 2],
        }
    }
}

/// Prints the header of the table.
pub(crate) fn head() {
    println!(
        "| job | nginx: CPU | gateway: CPU | ratio, best | ratio, median \
         | nginx: req/s, p50, p99 | gateway: req/s, p50, p99 |"
    );
    println!("|---|---|---|---|---|---|---|");
}

/// Prints one row.
pub(crate) fn print(row: &Row) {
    let Row {
        name,
        nginx,
        gateway,
        ratio,
    } = row;
    println!(
        "| {name} | {:.1} µs | {:.1} µs | {:.2} | {ratio:.2} | {} | {} |",
        nginx.cpu,
        gateway.cpu,
        gateway.cpu / nginx.cpu,
        pace(&nginx.best),
        pace(&gateway.best),
    );
}

fn pace(round: &Round) -> String {
    let (rate, p50, p99) = (round.rate(), round.quantile(0.5), round.quantile(0.99));
    format!("{rate:.0}, {p50} µs, {p99} µs")
}

/// Notes below the table.
pub(crate) const NOTES: &str = "
CPU is the server's own, of all its processes and threads, user and kernel, for one request; best of
the rounds. The gateway verifies, judges, limits and counts each request; nginx passes on, or looks
up, and verifies nothing: its cache gives an answer to whoever sends the same body. With Lua it
verifies, judges and limits too. In each round all requests reached the nodes, or none. The rates and
latencies are those of a load that always waits for its answer, with load and nodes on what processors
are left: they show that nobody starved, and are no claim. TLS 1.3 with X25519 and a P-256 leaf on
every connection of a client.";
