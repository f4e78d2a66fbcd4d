//! The logic of the page's scripts, module by module, as the browser runs it.

use serde_json::{Value, json};

use super::driver::Browser;
use crate::support::{TestEnv, eventually};

/// Returns the value of an expression over the members of a module of the page.
async fn value(browser: &Browser, module: &str, expression: &str) -> Value {
    let script = format!("return import('/{module}').then((module) => {expression})");
    browser.run(&script).await
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn the_verdict_is_the_worst_finding_and_hides_no_failure() {
    let env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    let verdict = async |findings: &[&str], errors: f64| {
        let findings: Vec<_> = findings
            .iter()
            .map(|severity| json!({ "severity": severity }))
            .collect();
        let status = json!({ "findings": findings, "findings_omitted": 0, "draining": false, "instance": "gw",
            "rates": { "errors": errors, "requests": 50.0 } });
        let words = value(&browser, "verdict.js", &format!("module.verdict({status})")).await;
        let title = value(
            &browser,
            "verdict.js",
            &format!("module.documentTitle({status})"),
        )
        .await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&words["worst"]),
            text(&words["headline"]),
            text(&title),
        )
    };
    let (worst, headline, title) = verdict(&[], 0.0).await;
    assert_eq!(worst, "none");
    assert_eq!(headline, "Callers get what they ask for.");
    assert_eq!(title, "ok · gw · ccfs-gateway");
    let (worst, headline, title) = verdict(&["note"], 0.0).await;
    assert_eq!(
        (worst.as_str(), headline.as_str()),
        ("note", "Callers get what they ask for.")
    );
    assert_eq!(title, "ok, 1 note · gw · ccfs-gateway");
    let (_, headline, _) = verdict(&[], 0.2).await;
    assert_eq!(
        headline,
        "Callers get what they ask for; 0.2 of 50 requests a second fail, too few for a finding."
    );
    let (worst, headline, title) = verdict(&["critical", "warning", "warning", "note"], 9.0).await;
    assert_eq!(worst, "critical");
    assert_eq!(headline, "1 critical, 2 warnings, 1 note");
    assert_eq!(title, "1 critical, 2 warnings · gw · ccfs-gateway");
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn numbers_are_written_for_people() {
    let env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    for (expression, shown) in [
        ("module.rate(null)", "–"),
        ("module.rate(0.01)", "<0.1"),
        ("module.rate(12.34)", "12"),
        ("module.milliseconds(3050)", "3,050"),
        ("module.percent(0.999)", ">99"),
        ("module.percent(0.001)", "<1"),
        ("module.percent(1)", "100"),
        ("module.bytes(1536)", "1.5 KiB"),
        ("module.span(59)", "59 s"),
        ("module.span(90061)", "1 d 1 h"),
        ("module.counted(1, 'node')", "1 node"),
        ("module.counted(2, 'node')", "2 nodes"),
        (
            "module.ago('2026-01-01T00:00:00Z', '2026-01-01T00:02:30Z')",
            "2 min",
        ),
    ] {
        assert_eq!(
            value(&browser, "numbers.js", expression).await,
            shown,
            "{expression}"
        );
    }
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn findings_of_one_kind_are_one_card() {
    let env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    let finding =
        |id: &str, severity: &str| json!({ "id": id, "severity": severity, "advice": "act" });
    let findings = json!([
        finding("cluster-down", "critical"),
        finding("node-down", "critical"),
        finding("node-down", "critical"),
        finding("node-down", "warning"),
    ]);
    let expression =
        format!("module.grouped({findings}).map((card) => [card.id, card.cases.length])");
    let cards = value(&browser, "findings.js", &expression).await;
    assert_eq!(
        cards,
        json!([["cluster-down", 1], ["node-down", 2], ["node-down", 1]])
    );
}

/// A module that cannot be loaded leaves a page that is asking for ever.
#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn every_module_is_served() {
    let env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    let script = "return document.getElementById('state').textContent";
    eventually("it serves", async || browser.run(script).await == "serving").await;
    let errors = browser.errors().await;
    assert!(errors.is_empty(), "{errors:?}");
}
