//! Nodes of another tier or another cluster serve.

use super::*;

/// Two nodes: the first alone, the second of the next priority or of another cluster.
async fn start_with(second: impl FnOnce(&str) -> (String, String)) -> TestEnv {
    let setup = Setup {
        nodes: 2,
        cluster: "health_check = { interval = \"100ms\" }".to_owned(),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    let urls: Vec<_> = (site.nodes.iter())
        .map(|node| format!("{:?}", node.url()))
        .collect();
    let (nodes, tables) = second(&urls[1]);
    let text = read(&site.file);
    let both = format!("nodes = [{}]", urls.join(", "));
    assert!(text.contains(&both), "{text}");
    let own = format!("nodes = [{}{nodes}", urls[0]);
    std::fs::write(&site.file, text.replace(&both, &own) + &tables).unwrap();
    start_site(site)
}

/// Stops the first node and starts it again; the finding says meanwhile what serves.
async fn comes_and_goes(mut env: TestEnv, cause: &str) {
    assert_eq!(env.get_recording("tier-1").await.status, 200);
    env.nodes[0].stop().await;
    let finding = appears(&env, "tier-or-fallback-in-use").await;
    assert!(is_name(&finding, "cluster", "ccfs"), "{finding}");
    assert_eq!(
        (&finding["severity"], &finding["cause"]),
        (&"warning".into(), &cause.into())
    );
    assert_eq!(env.get_recording("tier-2").await.status, 200);
    env.nodes[0].restart().await.unwrap();
    disappears(&env, "tier-or-fallback-in-use").await;
}

#[tokio::test]
async fn the_next_tier_is_a_finding_until_the_first_serves_again() {
    let env = start_with(|url| (format!(", {{ url = {url}, priority = 1 }}]"), String::new()));
    comes_and_goes(env.await, "the nodes of priority 1 serve").await;
}

#[tokio::test]
async fn a_fallback_is_a_finding_until_the_cluster_serves_again() {
    let env = start_with(|url| {
        let north = format!("\n[clusters.north]\nnodes = [{url}]\ntls = {{ ca = \"ca.pem\" }}\n");
        ("]\nfallback = \"north\"".to_owned(), north)
    });
    comes_and_goes(env.await, "the fallback cluster north serves").await;
}
