//! A test name server on a free port, and how its responses change a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;
use crate::upstream::health_check::watch_with;
use crate::upstream::tests::test_server::{TestServer, ok_response, settings};
use crate::upstream::tests::{QUERY, TestUpstream, eventually, request_to};

/// The response to a query.
#[derive(Clone, Debug)]
enum Reply {
    /// IPv4 addresses with a TTL, and no IPv6 address.
    Addresses(Vec<Ipv4Addr>, u32),
    /// The last parts of the addresses in 127.0.0.0/8 and ::/8; `None` is a failure of the server.
    Families(Option<Vec<u8>>, Option<Vec<u8>>),
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
        NameServers::Fixed(vec![self.address], "")
    }
}

/// Encodes a response (RFC 1035, section 4): the question, and records that point to its name.
fn encode(question: &[u8], reply: &Reply) -> Option<Vec<u8>> {
    let name = question[12..].iter().position(|&byte| byte == 0)? + 13;
    let kind = question[name + 1];
    let v4 = |last: u8| vec![127, 0, 0, last];
    let v6 = |last: u8| [vec![0; 15], vec![last]].concat();
    let (code, addresses, ttl) = match reply {
        Reply::Silence => return None,
        Reply::ServerFailure => (2, Vec::new(), 0),
        Reply::NoSuchName => (3, Vec::new(), 0),
        Reply::Addresses(addresses, ttl) if kind == 1 => {
            let octets = addresses.iter().map(|ip| ip.octets().to_vec());
            (0, octets.collect(), *ttl)
        }
        Reply::Addresses(..) => (0, Vec::new(), 0),
        Reply::Families(found, _) if kind == 1 => match found {
            Some(found) => (0, found.iter().copied().map(v4).collect(), 1),
            None => (2, Vec::new(), 0),
        },
        Reply::Families(_, found) => match found {
            Some(found) => (0, found.iter().copied().map(v6).collect(), 1),
            None => (2, Vec::new(), 0),
        },
    };
    let mut message = question[..2].to_vec();
    let count = addresses.len() as u8;
    message.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    message.extend(&question[12..name + 4]);
    for address in addresses {
        message.extend([0xc0, 12, 0, kind, 0, 1]);
        message.extend(u32::to_be_bytes(ttl));
        message.extend([0, address.len() as u8]);
        message.extend(address);
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
    let servers = NameServers::Fixed(vec![silent.local_addr().unwrap()], HOSTS);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    for (host, expected) in [
        ("localhost", vec![ip("::1"), ip("127.0.0.1")]),
        ("six.test", vec![ip("::2")]),
        ("four.test", vec![ip("127.0.0.4"), ip("127.0.0.5")]),
    ] {
        let address = NodeAddress {
            host: host.into(),
            port: 1,
        };
        let found = lookup(&address, &servers).await.unwrap();
        assert_eq!(found.addresses(), expected);
        assert_eq!(found.valid_for, MAX_TTL, "the hosts file is read again");
    }
}

/// A hosts file.
const HOSTS: &str = "127.0.0.1 localhost
::1 localhost
::2 six.test
127.0.0.5 four.test
\
     127.0.0.4 four.test
";

/// Each node's first address, and its address of the other family.
fn candidates_of(cluster: &Cluster) -> Vec<Vec<String>> {
    let text = |socket: &SocketAddr| socket.ip().to_string();
    let nodes = cluster.nodes().into_iter();
    let mut found: Vec<Vec<_>> = nodes
        .map(|node| node.candidates().iter().map(text).collect())
        .collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn both_families_of_a_name_are_one_node_for_each_pair() {
    let server = TestNameServer::start(Reply::Families(Some(vec![1, 2]), Some(vec![1]))).await;
    let cluster = named("nodes.test");
    let scenario = async {
        let both = [vec!["127.0.0.2"], vec!["::1", "127.0.0.1"]];
        eventually("both families", || candidates_of(&cluster) == both).await;
        // The server no longer answers for IPv6: its last good addresses stay.
        server.set_reply(Reply::Families(Some(vec![3]), None));
        let kept = [vec!["::1", "127.0.0.3"]];
        eventually("the other family moves", || candidates_of(&cluster) == kept).await;
        server.set_reply(Reply::Families(Some(vec![3]), Some(vec![])));
        eventually("one family", || candidates_of(&cluster) == [["127.0.0.3"]]).await;
        server.set_reply(Reply::Families(Some(vec![]), Some(vec![1])));
        eventually("the other one", || candidates_of(&cluster) == [["::1"]]).await;
    };
    tokio::select! {
        () = scenario => {}
        () = watch_with(cluster.clone(), None, server.servers()) => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn a_name_whose_other_family_fails_is_resolved() {
    for (reply, expected) in [
        (Reply::Families(Some(vec![1]), None), "127.0.0.1"),
        (Reply::Families(None, Some(vec![1])), "::1"),
    ] {
        let server = TestNameServer::start(reply).await;
        let address = NodeAddress {
            host: "nodes.test".into(),
            port: 1,
        };
        let found = resolve(&address, &server.servers()).await.unwrap();
        assert_eq!(found, [expected.parse::<IpAddr>().unwrap()]);
    }
}

/// The first candidate refuses; the second one is connected to.
#[tokio::test]
async fn the_other_family_serves_where_the_first_does_not() {
    let node = TestServer::responding(ok_response()).await;
    let mut settings = settings(&[node.address]);
    settings.nodes[0].address.host = "nodes.test".into();
    let cluster = Cluster::new(settings);
    let address = cluster.dns_names().next().unwrap().clone();
    let found = ["::1".parse().unwrap(), node.address.ip()];
    assert!(cluster.set_addresses(&address, &found));
    assert_eq!(cluster.nodes().len(), 1, "one machine is one node");
    let upstream = TestUpstream::new();
    let response = upstream.send_streaming(&request_to(QUERY, &cluster)).await;
    assert!(response.is_ok());
    let status = cluster.node_statuses(now()).remove(0);
    assert_eq!(status.socket, Some(node.address));
}

#[test]
fn a_ttl_is_clamped_to_a_second_and_a_minute() {
    let now = tokio::time::Instant::now().into_std();
    let ttl = |seconds| clamp_ttl(now + Duration::from_secs(seconds), now).as_secs();
    assert_eq!([ttl(0), ttl(7), ttl(86_400)], [1, 7, 60]);
}
