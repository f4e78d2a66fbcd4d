//! A name server of our own on a free port, and what the answers make of a cluster.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;
use crate::upstream::health_check::watch_with;
use crate::upstream::tests::eventually;
use crate::upstream::tests::test_server::settings;

/// What the server says to a question for addresses of IPv4; to others it says "none".
#[derive(Clone, Debug)]
enum Says {
    Addresses(Vec<Ipv4Addr>, u32),
    Failure,
    NoSuchName,
    Nothing,
}

/// A name server. Ends with its last handle.
struct TestNameServer {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl TestNameServer {
    async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let says = Arc::new(Mutex::new(says));
        let asked = Arc::new(AtomicUsize::new(0));
        let (said, counter) = (says.clone(), asked.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut question = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut question).await.unwrap();
                let says = said.lock().unwrap().clone();
                counter.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&question[..length], &says) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self {
            address,
            says,
            asked,
            _task: task,
        }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn query_count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn servers(&self) -> NameServers {
        NameServers::Fixed(vec![self.address])
    }
}

/// RFC 1035, section 4: the question comes back, with records that point to its name.
fn answer(question: &[u8], says: &Says) -> Option<Vec<u8>> {
    let name = question[12..].iter().position(|&byte| byte == 0)? + 13;
    let kind = question[name + 1];
    let (code, addresses, life) = match says {
        Says::Nothing => return None,
        Says::Failure => (2, &[][..], 0),
        Says::NoSuchName => (3, &[][..], 0),
        Says::Addresses(addresses, life) if kind == 1 => (0, &addresses[..], *life),
        Says::Addresses(..) => (0, &[][..], 0),
    };
    let mut answer = question[..2].to_vec();
    answer.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        addresses.len() as u8,
        0,
        0,
        0,
        0,
    ]);
    answer.extend(&question[12..name + 4]);
    for address in addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(life.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

fn addresses_of(cluster: &Cluster) -> Vec<String> {
    let mut found: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.socket().ip().to_string())
        .collect();
    found.sort_unstable();
    found
}

fn named(host: &str) -> Arc<Cluster> {
    let mut settings = settings(&["127.0.0.1:8443".parse().unwrap()]);
    settings.nodes[0].address.host = host.into();
    Cluster::new(settings)
}

fn ips(of: &[u8]) -> Vec<Ipv4Addr> {
    of.iter()
        .map(|&last| Ipv4Addr::new(10, 0, 0, last))
        .collect()
}

#[tokio::test]
async fn a_name_is_queried_again_after_its_ttl_and_keeps_its_last_good_addresses() {
    let server = TestNameServer::start(Says::Failure).await;
    let cluster = named("nodes.test");
    let watching = watch_with(cluster.clone(), None, server.servers());
    let story = async {
        eventually("it was asked", || server.query_count() > 0).await;
        assert!(addresses_of(&cluster).is_empty(), "no DNS, and it started");
        server.say(Says::Addresses(ips(&[1, 2]), 1));
        eventually("all addresses", || addresses_of(&cluster).len() == 2).await;
        assert_eq!(addresses_of(&cluster), ["10.0.0.1", "10.0.0.2"]);
        let kept = cluster.nodes();
        server.say(Says::Addresses(ips(&[2, 3]), 1));
        eventually("others", || {
            addresses_of(&cluster) == ["10.0.0.2", "10.0.0.3"]
        })
        .await;
        let again = cluster.nodes();
        assert!(again.iter().any(|node| node.id() == kept[1].id()));
        for bad in [Says::Failure, Says::NoSuchName, Says::Addresses(vec![], 1)] {
            server.say(bad);
            let before = server.query_count();
            eventually("asked again", || server.query_count() > before + 1).await;
            assert_eq!(addresses_of(&cluster), ["10.0.0.2", "10.0.0.3"]);
        }
        server.say(Says::Addresses(ips(&[4]), 3600));
        eventually("good again", || addresses_of(&cluster) == ["10.0.0.4"]).await;
    };
    tokio::select! {
        () = story => {}
        () = watching => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn an_unresolved_name_is_shown_with_its_reason() {
    let server = TestNameServer::start(Says::NoSuchName).await;
    let cluster = named("nodes.test");
    let shown = || {
        let node = cluster.node_statuses(now()).remove(0);
        let cause = node
            .last_failure_reason
            .as_deref()
            .unwrap_or_default()
            .to_owned();
        (node.state.as_str(), cause)
    };
    let story = async {
        let unknown = "no such name in DNS (NXDOMAIN)".to_owned();
        eventually("its cause", || shown() == ("unresolved", unknown.clone())).await;
        server.say(Says::Addresses(ips(&[1]), 3600));
        eventually("it is there", || shown() == ("up", String::new())).await;
        assert_eq!(cluster.node_statuses(now()).len(), 1);
    };
    tokio::select! {
        () = story => {}
        () = watch_with(cluster.clone(), None, server.servers()) => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn a_silent_name_server_times_out() {
    let server = TestNameServer::start(Says::Nothing).await;
    let address = NodeAddress {
        host: "nodes.test".into(),
        port: 1,
    };
    let servers = server.servers();
    let asking = timeout(Duration::from_millis(200), lookup(&address, &servers));
    assert!(asking.await.is_err(), "still waiting");
    assert!(server.query_count() > 0);
}

#[tokio::test]
async fn the_hosts_file_and_localhost_need_no_name_server() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = NameServers::Fixed(vec![nobody.local_addr().unwrap()]);
    let address = NodeAddress {
        host: "localhost".into(),
        port: 1,
    };
    let found = lookup(&address, &servers).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 1])]);
    assert_eq!(found.valid_for, MAX_TTL, "it is looked into again");
}

#[test]
fn a_ttl_is_clamped_to_a_second_and_a_minute() {
    let now = tokio::time::Instant::now().into_std();
    let life = |seconds| clamp_ttl(now + Duration::from_secs(seconds), now).as_secs();
    assert_eq!([life(0), life(7), life(86_400)], [1, 7, 60]);
}
