//! Limits of plans, limits on trial, and the clock of a node.

use super::*;

#[tokio::test]
async fn limits_that_only_count_are_a_note_until_they_hold() {
    let env = start(Setup {
        tables: "[limits]\ndry_run = true".to_owned(),
        ..Setup::default()
    })
    .await;
    let finding = appears(&env, "dry-run-on").await;
    assert_eq!(
        (&finding["severity"], &finding["subject"]["kind"]),
        (&"note".into(), &"gateway".into())
    );
    let page = edit(&env, |text| {
        text.replace("dry_run = true", "dry_run = false")
    });
    assert_eq!(page.await.status, 200);
    disappears(&env, "dry-run-on").await;
}

#[tokio::test]
async fn an_account_at_the_limit_of_its_plan_names_the_plan() {
    let rate = "rate_limit = { per_second = 1, burst = 1 }";
    let env = start(Setup {
        shanghai: "plan = \"small\"".to_owned(),
        tables: format!("[plans.small]\n{rate}\n[access_key_defaults]\n{rate}\n"),
        ..Setup::default()
    })
    .await;
    for ak in [SHANGHAI, BERLIN] {
        for call in 0..4 {
            let request = env.recording(&format!("plan-{call}"));
            env.send(&signed(request, ak)).await;
        }
    }
    eventually("both are limited", async || {
        all(&env, "account-limited").await.len() == 2
    })
    .await;
    for finding in all(&env, "account-limited").await {
        let key = match finding["subject"]["name"].as_str().unwrap() {
            SHANGHAI => "[plans.small] rate_limit",
            _ => "[access_key_defaults] rate_limit",
        };
        assert!(
            finding["cause"].as_str().unwrap().contains(key),
            "{finding}"
        );
        assert_eq!(finding["details"]["limits"][0]["key"], key);
    }
    disappears(&env, "account-limited").await;
}

#[tokio::test]
async fn the_clock_of_a_node_is_off_by_its_date_until_it_is_right() {
    let env = start(Setup {
        cluster: "health_check = { interval = \"100ms\" }".to_owned(),
        ..Setup::default()
    })
    .await;
    let date = Fault::Header("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    env.nodes[0].faults().inject_everywhere(date, When::Always);
    let finding = appears(&env, "clock-off").await;
    let node = format!("ccfs/{}", env.nodes[0].address());
    assert!(is_name(&finding, "node", &node), "{finding}");
    assert!(
        finding["cause"].as_str().unwrap().contains("behind"),
        "{finding}"
    );
    env.nodes[0].faults().clear();
    disappears(&env, "clock-off").await;
}
