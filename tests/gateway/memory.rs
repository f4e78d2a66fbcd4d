//! Memory stays bounded whatever unverified clients send (§6). Each test runs in a process of its
//! own, so that nothing else is measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use ccfs_gateway::config::Rate;
use ccfs_gateway::limit::AddressRateLimiter;
use jiff::Timestamp;

use crate::process::Process;
use crate::support::{Setup, credential};

const MIB: u64 = 1 << 20;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_million_addresses_cost_less_than_64_mib() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::child", "--ignored"])
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}

#[test]
#[ignore = "measures its own process; run by a_million_addresses_cost_less_than_64_mib"]
fn child() {
    let before = resident();
    let addresses = AddressRateLimiter::new(Rate::per_second(20, 200));
    for n in 0..500_000_u32 {
        let v4 = Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761));
        let v6 = Ipv6Addr::from_bits(u128::from(n) << 64 | 0x2001 << 112);
        let _ = addresses.try_acquire(IpAddr::V4(v4));
        let _ = addresses.try_acquire(IpAddr::V6(v6));
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes");
}

/// Checks the bound by its slope: the cost of these names, extrapolated to a million, stays within
/// a few hundred times of it.
#[tokio::test]
async fn invented_access_keys_are_not_remembered() {
    let process = Process::start(&Setup {
        tables: "[limits]\nper_address = { per_second = 1000000, burst = 1000000 }\n\
                 [telemetry]\nlog_level = \"info\"\naccess_log = \"off\""
            .to_owned(),
        ..Setup::default()
    })
    .await;
    let client =
        crate::support::client_trusting(process.site.folder.path()).with_idle_connections(1);
    let ask = async |n: u32| {
        let invented = ccfs_gateway::auth::AccessKey::from(format!("invented-{n}").as_str());
        let secrets = credential("any").secrets().to_vec();
        let stranger = ccfs_gateway::auth::Credential::new(invented, secrets, true);
        let names = ccfs_gateway::client::DEFAULT_SIGNED_FIELDS;
        let request = process.recording("memory-1");
        let request = request.sign(&stranger, names, Timestamp::now()).unwrap();
        assert_eq!(client.send(&request).await.unwrap().status, 401);
    };
    // Fills the bounded lists of claims and of cases for the signature doctor.
    for n in 0..1_000 {
        ask(n).await;
    }
    let before = process.resident();
    for n in 1_000..2_000 {
        ask(n).await;
    }
    let grown = process.resident().saturating_sub(before);
    assert!(grown < MIB / 2, "{grown} bytes for 1,000 names");
}
