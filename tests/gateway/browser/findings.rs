//! What the page says is wrong, and that it says nothing that is over.

use ccfs_gateway::stand_in::{Fault, When};
use serde_json::{Value, json};

use super::driver::Browser;
use super::keep;
use crate::page;
use crate::support::{Setup, TestEnv, eventually, read};

async fn text(browser: &Browser, selector: &str) -> String {
    let script = format!("return document.querySelector({selector:?})?.textContent ?? ''");
    browser.run(&script).await.as_str().unwrap().to_owned()
}

async fn shows(browser: &Browser, selector: &str, words: &str) {
    eventually(&format!("{selector}: {words}"), async || {
        text(browser, selector).await.contains(words)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn a_quiet_gateway_is_green_and_a_failing_one_says_why_and_what_to_do() {
    let env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    shows(&browser, "#verdict", "Callers get what they ask for").await;
    let title = browser.run("return document.title").await;
    assert!(title.as_str().unwrap().starts_with("ok · "), "{title}");
    let config = env.file("gateway.toml");
    shows(&browser, "#config-file", config.to_str().unwrap()).await;

    env.nodes[0]
        .faults()
        .inject(Fault::Status(401), When::Always);
    assert_eq!(env.get_recording("page-1").await.status, 401);
    shows(&browser, "#verdict", "1 critical").await;
    let finding = text(&browser, "#findings .finding.critical").await;
    for words in [
        "node ccfs/127.0.0.1:",
        "fail",
        "for ",
        "the node answers 401",
        "What to do: ",
    ] {
        assert!(finding.contains(words), "{words}: {finding}");
    }
    let title = browser.run("return document.title").await;
    assert!(
        title.as_str().unwrap().starts_with("1 critical · "),
        "{title}"
    );
    let row = text(&browser, "#nodes-table tr.critical .mark").await;
    assert_eq!(row, "refuses signatures", "no node is green that refuses");
    let hidden = browser
        .run("return [...document.querySelectorAll('.scroll')].filter((it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.textContent)")
        .await;
    assert_eq!(hidden, json!([]), "no column is out of sight on a desk");
    // The runbook is there when it is needed, without another connection.
    browser
        .run("document.querySelector('#findings .runbook summary').click()")
        .await;
    shows(
        &browser,
        "#findings .runbook .chapter",
        "Where to look: the finding names the access keys",
    )
    .await;
    let failed = text(&browser, "#failed-table tbody").await;
    assert!(failed.contains("getRecordFileUrlFromObs"), "{failed}");
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        keep(&browser, &format!("critical-{scheme}")).await;
    }
    let errors = browser.errors().await;
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn the_answer_to_a_command_goes_when_it_is_no_longer_true() {
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    shows(&browser, "#state", "serving").await;
    let file = env.file("gateway.toml");
    let good = read(&file);
    std::fs::write(&file, "wrong").unwrap();
    browser
        .run("document.getElementById('reload').click()")
        .await;
    shows(&browser, "#message", "rejected: ").await;
    // Another operator repairs it.
    std::fs::write(&file, good).unwrap();
    assert_eq!(page::post(admin, "/reload").await.status, 200);
    let clicked = std::time::Instant::now();
    eventually("the rejection is forgotten", async || {
        text(&browser, "#message").await.is_empty()
    })
    .await;
    assert!(
        clicked.elapsed().as_secs() < 6,
        "by what the status says, not by its age"
    );

    browser
        .run("const press = () => document.querySelector('#nodes-table td button').click(); press(); press();")
        .await;
    shows(&browser, "#message", "is drained").await;
    let node = env.nodes[0].address();
    page::post(admin, &format!("/nodes/ccfs/{node}/undrain")).await;
    let undrained = std::time::Instant::now();
    eventually("the drain is forgotten", async || {
        text(&browser, "#message").await.is_empty()
    })
    .await;
    assert!(undrained.elapsed().as_secs() < 6);
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn nothing_is_clipped_on_a_phone() {
    let env = Setup {
        nodes: 3,
        ..Setup::default()
    }
    .start()
    .await;
    std::fs::write(env.file("gateway.toml"), "wrong = [1,\n").unwrap();
    page::post(env.bound.admin.unwrap(), "/reload").await;
    env.get_recording("phone-1").await;
    let browser = Browser::start().await;
    browser.resize(390, 844).await;
    browser.open(&env.admin()).await;
    shows(&browser, "#verdict", "1 warning").await;
    let clipped = browser.run(CLIPPED).await;
    assert_eq!(clipped, json!([]));
    let width = browser
        .run("return document.documentElement.scrollWidth")
        .await;
    assert_eq!(width, 390);
    keep(&browser, "phone").await;
}

/// Returns the texts that are wider than their element, or reach beyond the window; blocks that scroll by
/// themselves excepted.
const CLIPPED: &str = "
    const scrolls = (element) => element && (element.matches('.scroll, .unseen, thead, thead *') || scrolls(element.parentElement));
    return [...document.body.querySelectorAll('*')]
        .filter((element) => element.childNodes.length && element.textContent.trim() && element.getClientRects().length && !scrolls(element))
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 || (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== 'inline' && getComputedStyle(element).overflowX !== 'visible'))
        .map((element) => element.className + ': ' + element.textContent);";

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn nodes_and_access_keys_are_filtered_and_sorted() {
    let setup = Setup {
        nodes: 9,
        accounts: vec![("ak-third", "time_zone = \"GMT+8\"\nname = \"Vendor B\"")],
        ..Setup::default()
    };
    let env = setup.start().await;
    env.get_recording("filter-1").await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    let rows = async |table: &str| {
        let script =
            format!("return document.querySelectorAll('#{table} tbody td:first-child').length");
        browser.run(&script).await
    };
    eventually("all nodes", async || rows("nodes-table").await == 9).await;
    let type_in = async |id: &str, words: &str| {
        let script = format!(
            "const field = document.getElementById('{id}'); field.value = '{words}'; field.dispatchEvent(new Event('input'));"
        );
        browser.run(&script).await;
    };
    let port = env.nodes[3].address().port().to_string();
    type_in("nodes-filter", &port).await;
    assert_eq!(rows("nodes-table").await, 1);
    type_in("nodes-filter", "").await;

    type_in("keys-filter", "vendor b").await;
    eventually("one access key", async || rows("keys-table").await == 1).await;
    type_in("keys-filter", "").await;
    eventually("all access keys", async || rows("keys-table").await == 3).await;
    let sort = "[...document.querySelectorAll('#keys-table th button')].find((it) => it.textContent === 'Requests').click()";
    browser.run(sort).await;
    eventually("the one that asked comes first", async || {
        text(&browser, "#keys-table tbody td").await == "ak-shanghai"
    })
    .await;
    let sorted = "return document.querySelector('#keys-table th[aria-sort]').textContent";
    assert_eq!(browser.run(sorted).await, Value::from("Requests"));
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn charts_of_a_new_gateway_are_filled_and_never_tall() {
    let env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    shows(&browser, "#state", "serving").await;
    env.get_recording("chart-1").await;
    let low = "return document.querySelector('[data-chart=requests] .scale').textContent";
    eventually("a point is drawn", async || {
        browser
            .run(low)
            .await
            .as_str()
            .unwrap()
            .starts_with("1 min ago")
    })
    .await;
    for (width, height) in [(1280, 800), (1440, 2000), (3840, 2160), (390, 844)] {
        browser.resize(width, height).await;
        let tallest = browser
            .run("return Math.max(...[...document.querySelectorAll('.chart svg')].map((svg) => svg.getBoundingClientRect().height))")
            .await;
        assert!(
            tallest.as_f64().unwrap() <= 180.0,
            "{tallest} at {width}x{height}"
        );
    }
}
