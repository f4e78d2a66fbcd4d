//! A test name server on a free port, and how its responses change a cluster.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;
use crate::upstream::health_check::watch_with;
use crate::upstream::tests::eventually;
use crate::upstream::tests::test_server::settings;

/// The response to a query for IPv4 addresses. Other queries get a response without addresses.
#[derive(Clone, Debug)]
enum Reply {
    Addresses(Vec<Ipv4Addr>, u32),
    ServerFailure,
    NoSuchName,
    Silence,
}

/// A name server. Stops when its last handle is dropped.
struct TestNameServer {
    address: SocketAddr,
    reply: Arc<Mutex<Reply>>,
    queries: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl TestNameServer {
    async fn start(reply: Reply) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let reply = Arc::new(Mutex::new(reply));
        let queries = Arc::new(AtomicUsize::new(0));
        let (current, counter) = (reply.clone(), queries.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                let reply = current.lock().unwrap().clone();
                counter.fetch_add(1, Ordering::SeqCst);
                if let Some(message) = encode(&query[..length], &reply) {
                    socket.send_to(&message, from).await.unwrap();
                }
            }
        });
        Self {
            address,
            reply,
            queries,
            _task: task,
        }
    }

    fn set_reply(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    fn query_count(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }

    fn servers(&self) -> NameServers {
        NameServers::Fixed(vec![self.address])
    }
}

/// Encodes a response (RFC 1035, section 4): the question, and records that point to its name.
fn encode(question: &[u8], reply: &Reply) -> Option<Vec<u8>> {
    let name = question[12..].iter().position(|&byte| byte == 0)? + 13;
    let kind = question[name + 1];
    let (code, addresses, ttl) = match reply {
        Reply::Silence => return None,
        Reply::ServerFailure => (2, &[][..], 0),
        Reply::NoSuchName => (3, &[][..], 0),
        Reply::Addresses(addresses, ttl) if kind == 1 => (0, &addresses[..], *ttl),
        Reply::Addresses(..) => (0, &[][..], 0),
    };
    let mut message = question[..2].to_vec();
    message.extend([
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
    message.extend(&question[12..name + 4]);
    for address in addresses {
        message.extend([0xc0, 12, 0, 1, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, 4]);
        message.extend(address.octets());
    }
    Some(message)
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
    let server = TestNameServer::start(Reply::ServerFailure).await;
    let cluster = named("nodes.test");
    let watching = watch_with(cluster.clone(), None, server.servers());
    let scenario = async {
        eventually("it was asked", || server.query_count() > 0).await;
        assert!(
            addresses_of(&cluster).is_empty(),
            "no addresses before a successful query"
        );
        server.set_reply(Reply::Addresses(ips(&[1, 2]), 1));
        eventually("all addresses", || addresses_of(&cluster).len() == 2).await;
        assert_eq!(addresses_of(&cluster), ["10.0.0.1", "10.0.0.2"]);
        let kept = cluster.nodes();
        server.set_reply(Reply::Addresses(ips(&[2, 3]), 1));
        eventually("others", || {
            addresses_of(&cluster) == ["10.0.0.2", "10.0.0.3"]
        })
        .await;
        let again = cluster.nodes();
        assert!(again.iter().any(|node| node.id() == kept[1].id()));
        for bad in [
            Reply::ServerFailure,
            Reply::NoSuchName,
            Reply::Addresses(vec![], 1),
        ] {
            server.set_reply(bad);
            let before = server.query_count();
            eventually("further queries", || server.query_count() > before + 1).await;
            assert_eq!(addresses_of(&cluster), ["10.0.0.2", "10.0.0.3"]);
        }
        server.set_reply(Reply::Addresses(ips(&[4]), 3600));
        eventually("good again", || addresses_of(&cluster) == ["10.0.0.4"]).await;
    };
    tokio::select! {
        () = scenario => {}
        () = watching => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn an_unresolved_name_is_shown_with_its_reason() {
    let server = TestNameServer::start(Reply::NoSuchName).await;
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
    let scenario = async {
        let unknown = "no such name in DNS (NXDOMAIN)".to_owned();
        eventually("its cause", || shown() == ("unresolved", unknown.clone())).await;
        server.set_reply(Reply::Addresses(ips(&[1]), 3600));
        eventually("it is there", || shown() == ("up", String::new())).await;
        assert_eq!(cluster.node_statuses(now()).len(), 1);
    };
    tokio::select! {
        () = scenario => {}
        () = watch_with(cluster.clone(), None, server.servers()) => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn a_silent_name_server_times_out() {
    let server = TestNameServer::start(Reply::Silence).await;
    let address = NodeAddress {
        host: "nodes.test".into(),
        port: 1,
    };
    let servers = server.servers();
    let pending = timeout(Duration::from_millis(200), lookup(&address, &servers));
    assert!(pending.await.is_err(), "still waiting");
    assert!(server.query_count() > 0);
}

#[tokio::test]
async fn the_hosts_file_and_localhost_need_no_name_server() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = NameServers::Fixed(vec![silent.local_addr().unwrap()]);
    let address = NodeAddress {
        host: "localhost".into(),
        port: 1,
    };
    let found = lookup(&address, &servers).await.unwrap();
    assert_eq!(found.addresses, [IpAddr::from([127, 0, 0, 1])]);
    assert_eq!(found.valid_for, MAX_TTL, "the hosts file is read again");
}

#[test]
fn a_ttl_is_clamped_to_a_second_and_a_minute() {
    let now = tokio::time::Instant::now().into_std();
    let ttl = |seconds| clamp_ttl(now + Duration::from_secs(seconds), now).as_secs();
    assert_eq!([ttl(0), ttl(7), ttl(86_400)], [1, 7, 60]);
}
