//! What each status of a node means (§4): whether another node is tried, and whether it counts against
//! the node.

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::{Fault, When};

use crate::forward::download;
use crate::page;
use crate::support::{SHANGHAI, Setup, TestEnv, signed};

/// Counts of the gateway that an attempt changes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    /// `upstream_tries_total`: ok, server_error, refused.
    tries: [f64; 3],
    /// Failures of all nodes in `/status`.
    failures: u64,
    /// Requests that the nodes have received.
    received: u64,
}

impl Counts {
    async fn read(env: &TestEnv) -> Self {
        let admin = env.bound.admin.unwrap();
        let metrics = page::get(admin, "/metrics").await.body;
        let tries = ["ok", "server_error", "refused"].map(|result| {
            let name = format!("ccfs_gateway_upstream_tries_total{{result=\"{result}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.map_or(0.0, |value| value.parse().unwrap())
        });
        let status = page::get(admin, "/status").await.json();
        let nodes = status["clusters"][0]["nodes"].as_array().unwrap();
        let failures = nodes.iter().map(|node| node["failures"].as_u64().unwrap());
        Self {
            tries,
            failures: failures.sum(),
            received: env.upstream_requests().len() as u64,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            tries: std::array::from_fn(|index| self.tries[index] - before.tries[index]),
            failures: self.failures - before.failures,
            received: self.received - before.received,
        }
    }
}

/// Returns the row of the table: attempts, whether they count against the node, and their result.
fn expected(status: u16, is_json: bool) -> Counts {
    let (attempts, fails, result): (u32, bool, usize) = match status {
        500 | 502 | 503 | 504 => (2, true, 1),
        501 | 505..=599 => (1, false, 1),
        300..=399 if is_json => (2, true, 1),
        401 => (2, false, 2),
        403 => (1, false, 2),
        _ => (1, false, 0),
    };
    let mut tries = [0.0; 3];
    tries[result] = f64::from(attempts);
    Counts {
        tries,
        failures: if fails { attempts.into() } else { 0 },
        received: attempts.into(),
    }
}

#[tokio::test]
async fn only_failures_of_the_node_count_against_it() {
    let setup = Setup {
        nodes: 2,
        cluster: "balance = \"round-robin\"\nretries = { floor = 1000 }\n\
                  ejection = { consecutive_failures = 0 }\nhealth_check = { interval = \"1h\" }"
            .to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let recording = |status: u16| env.recording(&format!("{status}-1"));
    let file = |_: u16| download(&env, "a.wav");
    let interfaces: [(bool, &dyn Fn(u16) -> ClientRequest); 2] =
        [(true, &recording), (false, &file)];
    let statuses = [201, 202, 203, 204, 205, 206, 226, 299]
        .into_iter()
        .chain(300..=309)
        .chain([399])
        .chain(400..=432)
        .chain([451, 499])
        .chain(500..=512)
        .chain([520, 530, 599])
        // A 408 on a reused connection is a stale connection.
        .filter(|status| *status != 408);
    for status in statuses {
        for (is_json, request) in &interfaces {
            for node in &env.nodes {
                node.faults().inject(Fault::Status(status), When::Always);
            }
            let before = Counts::read(&env).await;
            let response = env.send(&signed(request(status), SHANGHAI)).await;
            assert_eq!(response.status, status);
            assert_eq!(response.header("x-gateway-error"), None, "{status}");
            let seen = Counts::read(&env).await.since(before);
            assert_eq!(
                seen,
                expected(status, *is_json),
                "{status}, JSON: {is_json}"
            );
            for node in &env.nodes {
                node.faults().clear();
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_of_an_unverified_request_says_nothing_about_the_node() {
    let setup = Setup {
        listener: "unknown_clients = \"forward\"".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(403), When::Always);
    let before = Counts::read(&env).await;
    let request = signed(env.recording("1-1"), crate::support::UNKNOWN);
    assert_eq!(env.send(&request).await.status, 403);
    let seen = Counts::read(&env).await.since(before);
    assert_eq!(seen.tries, [1.0, 0.0, 0.0]);
}
