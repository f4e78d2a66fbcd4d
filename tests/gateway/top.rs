//! The command `top` in a real pseudo-terminal.

use ccfs_gateway::admin::AdminCommand;
use ccfs_gateway::stand_in::{Fault, When};

use crate::control::{ask, run_with};
use crate::page;
use crate::support::{SHANGHAI, Setup, TestEnv, eventually};
use crate::terminal::Terminal;

const SIZES: [(u16, u16); 2] = [(24, 80), (40, 120)];

async fn two_nodes() -> TestEnv {
    let env = Setup {
        nodes: 2,
        ..Setup::default()
    };
    let env = env.start().await;
    for call in 0..4 {
        env.get_recording(&format!("top-{call}")).await;
    }
    env
}

fn top(env: &TestEnv, (rows, columns): (u16, u16)) -> Terminal {
    Terminal::start(&["top", "--admin", &env.admin()], rows, columns)
}

async fn state(env: &TestEnv, node: usize) -> String {
    let status = page::get(env.bound.admin.unwrap(), "/status").await.json();
    let state = &status["clusters"][0]["nodes"][node]["state"];
    state.as_str().unwrap().to_owned()
}

/// Presses q, and checks that the terminal is as before.
async fn quit(mut terminal: Terminal) {
    terminal.type_text("q");
    assert_eq!(terminal.exit().await, Some(0));
    eventually("the terminal is restored", async || {
        !terminal.is_alternate() && terminal.has_cursor()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_on_the_screen_in_both_sizes() {
    let env = two_nodes().await;
    let nodes = [0, 1].map(|node| format!("ccfs/{}", env.nodes[node].address()));
    for size in SIZES {
        let terminal = top(&env, size);
        let parts = [
            "serving",
            "generation 1",
            "nothing is wrong",
            "cache hits",
            "p50/p90/p99",
            "NODE",
            &nodes[0],
            &nodes[1],
            "ACCESS KEY",
            SHANGHAI,
            "events",
            "q quit",
        ];
        terminal.shows(&parts).await;
        assert!(terminal.is_alternate());
        let rows = terminal.rows();
        assert!(rows[0].contains("serving"), "{}", terminal.text());
        assert!(
            rows[usize::from(size.0) - 1].contains("q quit"),
            "{}",
            terminal.text()
        );
        let has_chart = terminal.text().contains("15 minutes");
        assert_eq!(has_chart, size.1 >= 100);
        quit(terminal).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_come_first_and_say_what_to_do() {
    let env = two_nodes().await;
    for node in &env.nodes {
        node.faults().inject(Fault::Status(401), When::Always);
    }
    env.get_recording("refused-1").await;
    for size in SIZES {
        let terminal = top(&env, size);
        let parts = ["CRITICAL", "node-refuses-signature", "cache hits", "NODE"];
        terminal.shows(&parts).await;
        let rows = terminal.rows();
        let row = |part: &str| rows.iter().position(|row| row.contains(part)).unwrap();
        assert!(row("node-refuses-signature") < row("cache hits"));
        assert!(row("cache hits") < row("NODE"));
        terminal.type_text("2");
        terminal.shows(&["What to do: Compare the secret"]).await;
        terminal.type_text("?");
        terminal
            .shows(&["this help", "sort by the next column"])
            .await;
        terminal.type_text("x");
        eventually("the help is closed", async || {
            !terminal.text().contains("this help")
        })
        .await;
        quit(terminal).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_and_undrained_after_a_question() {
    let env = two_nodes().await;
    let name = format!("ccfs/{}", env.nodes[1].address());
    let terminal = top(&env, SIZES[0]);
    terminal.shows(&[&name]).await;
    // The second node, and no.
    terminal.type_text("\u{1b}[Bd");
    terminal.shows(&[&format!("Drain {name}?"), "y: yes"]).await;
    terminal.type_text("n");
    eventually("no question", async || !terminal.text().contains("y: yes")).await;
    assert_eq!(state(&env, 1).await, "up");
    terminal.type_text("d");
    terminal.shows(&["y: yes"]).await;
    terminal.type_text("y");
    terminal
        .shows(&[&format!("{name} is drained"), "1 not usable"])
        .await;
    assert_eq!(state(&env, 1).await, "drained");
    // The other one is the last.
    terminal.type_text("\u{1b}[Ad");
    terminal.shows(&["No other node of ccfs is usable!"]).await;
    terminal.type_text("n\u{1b}[Bu");
    terminal.shows(&[&format!("Undrain {name}?")]).await;
    terminal.type_text("y");
    eventually("it is up", async || state(&env, 1).await == "up").await;
    terminal.type_text("s");
    terminal.shows(&["by state"]).await;
    terminal.type_text("4s");
    terminal.shows(&["configured, by requests"]).await;
    quit(terminal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screen_follows_the_size_of_the_terminal() {
    let env = two_nodes().await;
    let terminal = top(&env, SIZES[0]);
    terminal.shows(&["q quit"]).await;
    terminal.resize(40, 120);
    terminal.shows(&["15 minutes"]).await;
    eventually("the footer is at the bottom", async || {
        terminal.rows()[39].contains("q quit")
    })
    .await;
    terminal.resize(24, 80);
    eventually("the footer is at the bottom", async || {
        terminal.rows()[23].contains("q quit")
    })
    .await;
    terminal.resize(3, 10);
    terminal.resize(24, 80);
    eventually("a tiny terminal is no end", async || {
        terminal.rows()[23].contains("q quit")
    })
    .await;
    quit(terminal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_gone_is_asked_again() {
    let mut env = two_nodes().await;
    let mut terminal = top(&env, SIZES[0]);
    terminal.shows(&["serving"]).await;
    env.shut_down().await;
    terminal
        .shows(&["unreachable", "gateway-unreachable", "cannot reach"])
        .await;
    assert!(terminal.is_running());
    quit(terminal).await;
    // Before it has ever answered.
    let terminal = top(&env, SIZES[1]);
    terminal
        .shows(&["unreachable", "cannot reach", "Asked every second"])
        .await;
    quit(terminal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_begins_to_answer_is_shown() {
    let env = two_nodes().await;
    let site_file = env.file("gateway.toml");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let url = address.to_string();
    let terminal = Terminal::start(&["top", "--admin", &url], 24, 80);
    terminal.shows(&["cannot reach"]).await;
    let text = crate::support::read(&site_file);
    let text = text.replace(
        "[admin]\nbind = \"127.0.0.1:0\"",
        &format!("[admin]\nbind = \"{address}\""),
    );
    std::fs::write(&site_file, text).unwrap();
    let second = env.replica();
    terminal.shows(&["serving", "nothing is wrong"]).await;
    drop(second);
    quit(terminal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_and_ctrl_c_restore_the_terminal() {
    let env = two_nodes().await;
    for end in ["TERM", "INT", "ctrl-c"] {
        let mut terminal = top(&env, SIZES[0]);
        terminal.shows(&["q quit"]).await;
        match end {
            "ctrl-c" => terminal.type_text("\u{3}"),
            signal => terminal.signal(signal),
        }
        assert_eq!(terminal.exit().await, Some(0), "{end}");
        eventually("the terminal is restored", async || {
            !terminal.is_alternate() && terminal.has_cursor()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_colour_nothing_is_coloured() {
    let env = two_nodes().await;
    let arguments = ["top", "--admin", &env.admin()];
    let is_coloured = |text: &str| {
        ["\u{1b}[3", "\u{1b}[9"].iter().any(|start| {
            text.split(start).skip(1).any(|rest| {
                let digits: String = rest.chars().take_while(|c| *c != 'm').collect();
                digits.starts_with(['0', '1', '2', '3', '4', '5', '6', '7', '8'])
                    && digits.chars().all(|c| c.is_ascii_digit() || c == ';')
            })
        })
    };
    let terminal = Terminal::start(&arguments, 24, 80);
    terminal.shows(&["q quit", SHANGHAI]).await;
    assert!(is_coloured(&terminal.written()));
    let terminal = Terminal::start_with(&arguments, SIZES[0], &[("NO_COLOR", "1")]);
    terminal.shows(&["q quit", SHANGHAI]).await;
    assert!(
        !is_coloured(&terminal.written()),
        "{:?}",
        terminal.written()
    );
}

#[tokio::test]
async fn without_a_terminal_it_is_an_error_and_json_is_the_status() {
    let env = TestEnv::start().await;
    let piped = ask(&env, &["top"]).await;
    assert_eq!((piped.code, piped.out.as_str()), (Some(1), ""));
    assert!(
        piped.err.contains("needs a terminal") && piped.err.contains("status"),
        "{}",
        piped.err
    );
    let json = ask(&env, &["top", "--json"]).await;
    assert_eq!(
        (json.code, &json.json()["generation"]),
        (Some(0), &1.into())
    );
    let wrong = run_with(&["top", "--admin", "ftp://x"]).await;
    assert_eq!(wrong.code, Some(1));
    drop(env);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_the_gateway_is_shown_until_it_is_gone() {
    let setup = Setup {
        tables: "[server]\ndrain_delay = \"60s\"".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let terminal = top(&env, SIZES[0]);
    terminal.shows(&["serving"]).await;
    env.commands.send(AdminCommand::Drain).await.unwrap();
    terminal.shows(&["draining"]).await;
    quit(terminal).await;
}
