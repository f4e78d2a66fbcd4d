//! The picture of the README: the status page while `demo --load` runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::driver::Browser;
use crate::page;
use crate::process::PROGRAM;
use crate::support::eventually;

/// A `demo --load`, ended and reaped at the end.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.0.wait();
    }
}

/// With `README_PICTURE=FILE` the load runs for some minutes, so that the charts have something to show, and
/// the picture is written to that file: `just screenshot`.
#[tokio::test]
#[ignore = "needs Debian's chromium and chromium-driver"]
async fn the_page_is_alive_under_the_load_of_the_demo() {
    let picture = std::env::var_os("README_PICTURE");
    let folder = tempfile::tempdir().unwrap();
    let demo = Command::new(PROGRAM)
        .args(["demo", "--load"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut demo = Demo(demo.unwrap());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let url = lines.find_map(|line| {
        let line = line.unwrap();
        let (_, url) = line.split_once("status page")?;
        Some(url.trim().to_owned())
    });
    let url = url.unwrap();
    let admin = url.split('/').nth(2).unwrap().parse().unwrap();
    let hits = async || page::metric(admin, r#"cache_requests_total{status="hit"}"#).await;
    let before = hits().await;
    eventually("answers come from the cache", async || {
        hits().await > before + 20.0
    })
    .await;

    let browser = Browser::start().await;
    browser.prefer("dark").await;
    if picture.is_some() {
        tokio::time::sleep(LOAD).await;
    }
    browser.open(&url).await;
    let rows = "return document.querySelectorAll('#nodes-table td button').length";
    eventually("all nodes are shown", async || browser.run(rows).await == 3).await;
    if picture.is_some() {
        // The page has fetched its charts and two answers of /status.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(browser.errors().await, Vec::<String>::new());
    let png = BASE64_STANDARD.decode(browser.screenshot().await).unwrap();
    assert!(png.len() < 300_000, "{} bytes", png.len());
    if let Some(path) = picture {
        std::fs::write(Path::new(&path), png).unwrap();
    }
}

/// Longer than the first points of the charts take.
const LOAD: Duration = Duration::from_secs(150);
