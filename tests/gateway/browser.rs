//! The status page in a real browser, from the point of view of an operator and of an attacker.
//!
//! `cargo test --test gateway browser:: -- --ignored`; with `SCREENSHOTS=DIR` screenshots are
//! written to that directory.

use std::path::Path;

use base64::Engine;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use ccfs_gateway::stand_in::certificates::write_private_file;

use crate::page;
use crate::support::{Setup, TestEnv, eventually};

mod driver;
mod embedding;
mod findings;
mod modules;
mod player;
mod screenshot;

use driver::{Browser, ENTER, TAB, processes_of};

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn a_failing_test_leaves_no_browser_behind() {
    let (tell, folder) = tokio::sync::oneshot::channel();
    let failing = tokio::spawn(async {
        let browser = Browser::start().await;
        browser.open("about:blank").await;
        assert!(!processes_of(browser.folder()).is_empty());
        tell.send(browser.folder().to_owned()).unwrap();
        panic!("on purpose");
    });
    assert!(failing.await.unwrap_err().is_panic());
    let folder = folder.await.unwrap();
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!folder.exists(), "{}", folder.display());
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn an_operator_drains_a_node_by_keyboard() {
    let setup = Setup {
        nodes: 3,
        ..Setup::default()
    };
    let env = setup.start().await;
    env.get_recording("1637742300-27").await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    eventually("all nodes are shown", async || {
        browser
            .run("return document.querySelectorAll('#nodes-table td button').length")
            .await
            == 3
    })
    .await;
    let node = env.nodes[0].address().to_string();
    assert_eq!(state(&browser, &node).await, "up");
    // Keyboard navigation only.
    let focused = "return document.activeElement.getAttribute('aria-label') ?? ''";
    let wanted = format!("Drain {node} of ccfs");
    let mut steps = 0;
    while browser.run(focused).await.as_str() != Some(wanted.as_str()) {
        steps += 1;
        assert!(steps < 40, "the button of {node} cannot be reached by Tab");
        browser.press(TAB).await;
    }
    browser.press(ENTER).await;
    eventually("the page shows the drain", async || {
        state(&browser, &node).await == "drained"
    })
    .await;
    let status = page::get(env.bound.admin.unwrap(), "/status").await.json();
    assert_eq!(status["clusters"][0]["nodes"][0]["state"], "drained");
    assert_eq!(
        browser.run(focused).await,
        format!("Undrain {node} of ccfs"),
        "the focus stays where it is"
    );
    browser.press(ENTER).await;
    eventually("the page shows the undrain", async || {
        state(&browser, &node).await == "up"
    })
    .await;
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        keep(&browser, scheme).await;
    }
    let errors = browser.errors().await;
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn draining_the_last_node_asks_for_confirmation() {
    let env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    let node = env.nodes[0].address().to_string();
    eventually("the node is shown", async || {
        state(&browser, &node).await == "up"
    })
    .await;
    let click = "document.querySelector('#nodes-table td button').click()";
    browser.run(click).await;
    let word = browser
        .run("return document.querySelector('#nodes-table td button').textContent")
        .await;
    assert_eq!(
        (word, state(&browser, &node).await.as_str()),
        (Value::from("Last one!"), "up")
    );
    browser.run(click).await;
    eventually("it is drained", async || {
        state(&browser, &node).await == "drained"
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn the_page_reports_a_lost_gateway() {
    let mut env = TestEnv::start().await;
    let browser = Browser::start().await;
    browser.open(&env.admin()).await;
    let script = "return document.getElementById('state').textContent";
    eventually("it serves", async || browser.run(script).await == "serving").await;
    env.shut_down().await;
    eventually("it is reported as gone", async || {
        browser
            .run(script)
            .await
            .as_str()
            .unwrap()
            .starts_with("disconnected, last seen")
    })
    .await;
    let verdict = browser
        .run("return document.getElementById('verdict').textContent")
        .await;
    assert!(
        verdict.as_str().unwrap().starts_with("Not known now; "),
        "what was true is not said to be: {verdict}"
    );
    let faint = "return [...document.querySelectorAll('body, main, section')].filter((it) => getComputedStyle(it).opacity !== '1').length";
    assert_eq!(browser.run(faint).await, 0, "grey, but readable");
    let usable = "return [...document.querySelectorAll('button')].filter(b => !b.disabled).length";
    assert_eq!(browser.run(usable).await, 0);
    let title = browser.run("return document.title").await;
    assert!(
        title.as_str().unwrap().starts_with("disconnected · "),
        "{title}"
    );
    keep(&browser, "gone").await;
}

/// Browsers send the token as the password of HTTP Basic authentication.
#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn a_token_is_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    write_private_file(&file, b"s3cret-token").unwrap();
    let setup = Setup {
        tables: format!("[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = {file:?}"),
        ..Setup::default()
    };
    let env = setup.start().await;
    let admin = env.bound.admin.unwrap();
    let browser = Browser::start().await;
    browser
        .open(&format!("http://operator:s3cret-token@{admin}/"))
        .await;
    let script = "return document.getElementById('state').textContent";
    eventually("it serves", async || browser.run(script).await == "serving").await;
    browser
        .run("document.getElementById('reload').click()")
        .await;
    let message = "return document.getElementById('message').textContent";
    eventually("a command is accepted", async || {
        browser
            .run(message)
            .await
            .as_str()
            .unwrap()
            .contains("in force")
    })
    .await;
}

/// Node names and error texts are rendered as text, never as markup.
#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn displayed_values_never_become_markup() {
    let env = TestEnv::start().await;
    let evil = "[admin]\nbind = \"<img src=x onerror='document.title=1'>\"\n";
    std::fs::write(env.file("gateway.toml"), evil).unwrap();
    let browser = Browser::start().await;
    assert_eq!(
        page::post(env.bound.admin.unwrap(), "/reload").await.status,
        409
    );
    browser.open(&env.admin()).await;
    let alert = "return document.getElementById('findings').textContent";
    eventually("the error is shown", async || {
        browser.run(alert).await.as_str().unwrap().contains("<img")
    })
    .await;
    assert_eq!(browser.run("return document.images.length").await, 0);
    let title = browser.run("return document.title").await;
    assert!(
        title.as_str().unwrap().starts_with("1 warning · "),
        "{title}"
    );
    keep(&browser, "refused").await;
}

#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn a_hostile_page_cannot_send_commands() {
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    let browser = Browser::start().await;
    let script = ATTACK.replace("ADMIN", &format!("http://{admin}"));
    let hostile = serve(format!("<!doctype html><title>begun</title><body>{script}")).await;
    for host in ["127.0.0.1", "localhost", "evil.example"] {
        browser.open(&format!("http://{host}:{hostile}/")).await;
        eventually("the attack has ended", async || {
            browser
                .run("return document.title")
                .await
                .as_str()
                .unwrap()
                .starts_with("done")
        })
        .await;
        let title = browser.run("return document.title").await;
        assert_eq!(
            title, "done 0",
            "responses that the attacker's page could read, from {host}"
        );
        still_serving(&env).await;
    }
    // DNS rebinding: an attacker's name that resolves to this machine. The browser considers it the
    // same origin, the admin interface rejects it.
    browser
        .open(&format!("http://evil.example:{}/", admin.port()))
        .await;
    let status = browser
        .run(
            "return fetch('/drain', { method: 'POST', headers: { 'X-Ccfs-Gateway': '1' } })
                 .then((answer) => answer.status)",
        )
        .await;
    assert_eq!(status, 421);
    still_serving(&env).await;
}

/// Cross-origin admin commands with and without the required field, as a form, and through a frame.
const ATTACK: &str = r#"
<form id=form method=post action="ADMIN/drain" target=frame enctype="text/plain"><input name=a value=b></form>
<iframe name=frame></iframe><iframe src="ADMIN/"></iframe>
<script>
(async () => {
  let read = 0;
  const attempt = (path, options) => fetch("ADMIN" + path, options).then((a) => { if (a.type !== "opaque") read += 1; }).catch(() => {});
  await attempt("/drain", { method: "POST", mode: "no-cors" });
  await attempt("/drain", { method: "POST", mode: "no-cors", credentials: "include", body: "x" });
  await attempt("/drain", { method: "POST", headers: { "X-Ccfs-Gateway": "1" } });
  await attempt("/status", {});
  await attempt("/config", { mode: "no-cors" });
  document.getElementById("form").submit();
  await new Promise((landed) => { document.querySelector("iframe").onload = landed; setTimeout(landed, 2000); });
  document.title = "done " + read;
})();
</script>"#;

async fn still_serving(env: &TestEnv) {
    let admin = env.bound.admin.unwrap();
    assert_eq!(page::get(admin, "/readyz").await.status, 200);
    let status = page::get(admin, "/status").await.json();
    assert_eq!(status["draining"], false);
}

async fn state(browser: &Browser, node: &str) -> String {
    let script = format!(
        "const row = [...document.querySelectorAll('#nodes-table tbody tr')].find((row) => row.firstChild.textContent === '{node}');
         return row ? row.querySelector('.state').textContent : ''"
    );
    browser.run(&script).await.as_str().unwrap().to_owned()
}

/// Serves one page to every client; returns the port.
async fn serve(page: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let length = page.len();
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let response = response.clone();
            // Browsers open speculative connections that never carry a request.
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(response.as_bytes()).await;
            });
        }
    });
    port
}

/// Writes a screenshot if `SCREENSHOTS` is set.
async fn keep(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("SCREENSHOTS") {
        let engine = base64::engine::general_purpose::STANDARD;
        let picture = engine.decode(browser.screenshot().await).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }
}
