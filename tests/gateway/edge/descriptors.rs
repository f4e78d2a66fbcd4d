//! File descriptor exhaustion.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::edge::valid_request;
use crate::hostile::Target;
use crate::process::Process;
use crate::support::Setup;

#[tokio::test]
async fn idle_connections_are_closed_when_descriptors_run_out() {
    let setup = Setup {
        tables: "[telemetry]\nlog_level = \"info\"\naccess_log = \"off\"".into(),
        ..Setup::default()
    };
    let mut gateway = Process::start(&setup).await;
    let target = Target::new(gateway.listener, &gateway.site.folder.path().join("ca.pem"));
    let few = Rlimit {
        current: Some(80),
        maximum: Some(80),
    };
    let pid = Pid::from_raw(i32::try_from(gateway.id()).unwrap());
    prlimit(pid, Resource::Nofile, few).unwrap();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(target.address).await.unwrap());
    }
    for _ in 0..3 {
        let start = Instant::now();
        let mut connection = target.connect().await;
        connection.send(&valid_request("1-1")).await;
        assert_eq!(connection.response().await.unwrap().status, 200);
        let waited = start.elapsed();
        println!("{waited:?}");
        assert!(waited < Duration::from_secs(2), "{waited:?}");
    }
    assert!(gateway.is_running());
}
