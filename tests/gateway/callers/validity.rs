//! The end of a caller's own validity, while its requests wait.

use ccfs_gateway::stand_in::FlowClass;
use jiff::{SignedDuration, Timestamp};

use super::{Authority, Site, caller};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::fetch::{hold_responses, release_responses, wait_until_held};
use crate::flow_control::at_once;
use crate::interfaces::envelope;
use crate::page;
use crate::support::{BERLIN, TestEnv, eventually, signed};

/// The table of the caller `a`, whose validity ends at `end`.
fn ending(end: Timestamp, keys: &str) -> String {
    caller(
        "a",
        &format!("client_certificate = [\"CN=a\"]\nnot_after = {end:.3}\n{keys}"),
    )
}

async fn eventually_one(env: &TestEnv, gauge: &str) {
    let admin = env.bound.admin.unwrap();
    eventually(gauge, async || page::metric(admin, gauge).await == 1.0).await;
}

#[tokio::test]
async fn a_wait_for_a_fetch_ends_and_who_joined_it_goes_on() {
    let end = Timestamp::now() + SignedDuration::from_secs(4);
    let authority = Authority::new("clients");
    let tables = ending(end, "") + &caller("b", "client_certificate = [\"CN=b\"]");
    let env = Site::new(&authority, &tables).start().await;
    let [a, b] = ["CN=a", "CN=b"].map(|name| authority.issue(&[name]));
    hold_responses(&env);
    let ended = async {
        let response = env.recording_of(&a, "validity-1").await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        // The overall deadline is later.
        assert!(Timestamp::now() < end + SignedDuration::from_secs(3));
        release_responses(&env);
    };
    let joined = async {
        wait_until_held(&env, 1).await;
        env.recording_of(&b, "validity-1").await
    };
    let ((), joined) = tokio::join!(ended, joined);
    assert_node_response(&joined, "0");
    assert_eq!(env.recording_fetches(), 1);
}

#[tokio::test]
async fn a_place_in_the_queue_for_a_node_ends() {
    let end = Timestamp::now() + SignedDuration::from_secs(4);
    let authority = Authority::new("clients");
    let mut site = Site::new(
        &authority,
        &ending(end, "interfaces = [\"requestPlayVoice\"]"),
    );
    site.setup.cluster = "flow_control = { max_wait = \"8s\" }".to_owned();
    let env = site.start().await;
    let client = env.client_of(&authority.issue(&["CN=a"]));
    env.nodes[0]
        .faults()
        .set_flow_limit(FlowClass::Query, at_once(1));
    hold_responses(&env);
    let held = signed(env.recording("validity-2"), BERLIN);
    let mut waits = envelope(&env, "requestPlayVoice");
    waits.headers.remove(http::header::AUTHORIZATION);
    let waiting = async {
        wait_until_held(&env, 1).await;
        client.send(&waits).await.unwrap()
    };
    let queued = async {
        eventually_one(&env, "flow_control_waiters{cluster=\"ccfs\"}").await;
        assert!(Timestamp::now() < end, "it waits before the end");
    };
    tokio::select! {
        (response, ()) = async { tokio::join!(waiting, queued) } => {
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        }
        _ = env.send(&held) => panic!("the node holds it"),
    }
    // The wait by itself would have been longer.
    assert!(Timestamp::now() < end + SignedDuration::from_secs(2));
    release_responses(&env);
}
