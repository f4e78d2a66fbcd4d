//! Every fault of a node's response, on a new and on a reused connection, for each kind of interface:
//! what becomes of the request, and that the next one works.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;

use super::test_server::{
    Behavior, OK_BODY, Signal, TestServer, json_response, ok_response, settings,
};
use super::*;

/// A node that responds well except to requests for which a fault is set.
struct FaultyNode {
    node: TestServer,
    fault: Arc<Mutex<Option<Behavior>>>,
    upstream: TestUpstream,
    cluster: Arc<Cluster>,
}

impl FaultyNode {
    async fn start() -> Self {
        let fault = Arc::new(Mutex::new(None::<Behavior>));
        let script = fault.clone();
        let node = TestServer::start(move |_| {
            let fault = script.lock().unwrap().take();
            fault.unwrap_or_else(|| Behavior::Respond(ok_response()))
        })
        .await;
        let cluster = Cluster::new(settings(&[node.address]));
        Self {
            node,
            fault,
            upstream: TestUpstream::new(),
            cluster,
        }
    }

    /// Sends a request of this interface; returns the body of a response that arrives whole.
    async fn send(&self, interface: &str) -> Result<Bytes, UpstreamErrorKind> {
        let request = request_to(interface, &self.cluster);
        if interface == DOWNLOAD {
            let reply = self.upstream.send_streaming(&request).await;
            let body = reply.map_err(|error| error.kind)?.body;
            let body = body.collect().await;
            // Where the response was begun, its client sees that it is cut off.
            return body
                .map(|body| body.to_bytes())
                .map_err(|_| UpstreamErrorKind::ResponseIncomplete);
        }
        let reply = self.upstream.send_buffered(&request).await;
        reply.map(|reply| reply.body).map_err(|error| error.kind)
    }

    /// Sends a request to which the node responds with `fault`.
    async fn send_with(
        &self,
        fault: Behavior,
        interface: &str,
        reused: bool,
    ) -> Result<Bytes, UpstreamErrorKind> {
        if reused {
            self.send(interface).await.unwrap();
        } else {
            eventually("the connection is closed", || {
                self.upstream.upstream.pool.clear();
                self.node.open_connections() == 0
            })
            .await;
        }
        *self.fault.lock().unwrap() = Some(fault);
        let result = self.send(interface).await;
        assert!(self.fault.lock().unwrap().is_none(), "the node saw it");
        let next = self.send(interface).await;
        assert_eq!(next.expect("the next request works"), OK_BODY);
        result
    }
}

/// Returns a response with this body in both framings.
fn responses(body: &str) -> [Vec<u8>; 2] {
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    [
        format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes(),
        format!("{head}transfer-encoding: chunked\r\n\r\n{length:x};a=b\r\n{body}\r\n0\r\n\r\n")
            .into_bytes(),
    ]
}

#[tokio::test]
async fn a_response_that_is_cut_anywhere_is_never_taken_for_a_whole_one() {
    let faulty = FaultyNode::start().await;
    for response in responses(r#"{"resultCode":"0"}"#) {
        for (cut, interface) in (0..response.len())
            .flat_map(|cut| [QUERY, JOB, DOWNLOAD].map(|interface| (cut, interface)))
        {
            let part = response[..cut].to_vec();
            // A reset may destroy what was sent before it.
            let (fault, is_reset) = match cut % 3 {
                0 => (Behavior::RespondAndClose(part), false),
                1 => (Behavior::Cut(part), false),
                _ => (Behavior::Reset(part), true),
            };
            let reused = cut % 2 == 0;
            let result = faulty.send_with(fault, interface, reused).await;
            // Before the first byte it is a stale connection.
            let may_reconnect = reused && interface != JOB;
            let is_expected = match &result {
                Ok(body) => (cut == 0 || is_reset) && may_reconnect && body == OK_BODY,
                Err(UpstreamErrorKind::ConnectionClosed) => {
                    (cut == 0 || is_reset) && !may_reconnect
                }
                Err(kind) => cut > 0 && *kind == UpstreamErrorKind::ResponseIncomplete,
            };
            assert!(
                is_expected,
                "{interface} cut at {cut}, reused: {reused}: {result:?}"
            );
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one table")]
#[tokio::test]
async fn an_invalid_response_fails_and_a_strange_one_passes() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let ok = String::from_utf8(ok_response()).unwrap();
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{OK_BODY}");
    let length = OK_BODY.len();
    let fields = |count: usize| {
        let fields: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("{fields}content-length: {length}")
    };
    let invalid = [
        with("content-length: x"),
        with("content-length: -1"),
        with("content-length: +5"),
        with("content-length:"),
        with(&format!("content-length: {length}, {length}")),
        with(&format!("content-length: {length}\r\ncontent-length: 1")),
        with(&format!(
            "content-length: {length}\r\ntransfer-encoding: chunked"
        )),
        with("content-length: 99999999999999999999"),
        with("transfer-encoding: gzip, chunked"),
        with("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        with(&format!("x: a\0b\r\ncontent-length: {length}")),
        with(&format!("x y: a\r\ncontent-length: {length}")),
        with(&fields(1001)),
        with(&format!(
            "x: {}\r\ncontent-length: {length}",
            "x".repeat(64 * 1024)
        )),
        "220 mail.example ESMTP\r\n".to_owned(),
        "\0\u{1}\u{2}".to_owned(),
        "HTTP/2 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "HTTP/1.1 0 OK\r\n\r\n".to_owned(),
        format!("{}{ok}", interim.repeat(9)),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(),
    ];
    let strange = [
        with(&fields(999)),
        format!("{}{ok}", interim.repeat(8)),
        // A second response that nothing asked for.
        format!("{ok}{}", ok.replace("ok", "no")),
        format!("{ok}\r\n"),
        format!("HTTP/1.1 200\ncontent-length: {length}\n\n{OK_BODY}"),
    ];
    let invalid = invalid.map(|bytes| (Behavior::Respond(bytes.into_bytes()), false));
    let strange = strange.map(|bytes| (Behavior::Respond(bytes.into_bytes()), true));
    let slow = [(Behavior::Drip(ok_response()), true)];
    let faulty = FaultyNode::start().await;
    for (number, (fault, passes)) in invalid.into_iter().chain(strange).chain(slow).enumerate() {
        for (interface, reused) in [QUERY, JOB, DOWNLOAD]
            .into_iter()
            .flat_map(|interface| [false, true].map(|reused| (interface, reused)))
        {
            let result = faulty.send_with(fault.clone(), interface, reused).await;
            let case = format!("case {number}, {interface}, reused: {reused}: {result:?}");
            match result {
                Ok(body) => assert!(passes && body == OK_BODY, "{case}"),
                Err(kind) => assert!(
                    !passes && kind == UpstreamErrorKind::InvalidResponse,
                    "{case}"
                ),
            }
        }
    }
}

/// The node runs on another thread, so that it sends the second response while this runtime does not
/// poll its sockets.
#[test]
fn an_unsolicited_response_is_never_the_response_to_the_next_request() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let signal = Arc::new(Signal::default());
    let (sender, receiver) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let sends = signal.clone();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            let evil = json_response("200 OK", r#"{"resultCode":"evil"}"#);
            let node = TestServer::start(move |seen| match seen.index {
                0 => Behavior::Unsolicited(ok_response(), evil.clone(), sends.clone()),
                _ => Behavior::Respond(ok_response()),
            })
            .await;
            sender.send(node).unwrap();
            let _ = ended.await;
        });
    });
    let node = receiver.recv().unwrap();
    runtime().block_on(async {
        let (upstream, cluster) = (TestUpstream::new(), test_server::cluster(&[&node]));
        for interface in [QUERY, JOB, QUERY, QUERY] {
            let request = request_to(interface, &cluster);
            let reply = upstream.send_buffered(&request).await.unwrap();
            assert_eq!(reply.body, OK_BODY, "{interface}");
            signal.go_and_wait();
        }
    });
    assert_eq!(node.count(), 4);
    drop(node);
    drop(end);
    thread.join().unwrap();
}

#[tokio::test]
async fn after_an_unsolicited_response_no_connection_is_used_twice() {
    let (begun, latest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen_begun, seen_latest) = (begun.clone(), latest.clone());
    // Only the first response of all is followed by another one, in the same bytes.
    let node = TestServer::start(move |seen| {
        seen_latest.fetch_max(seen.index, Ordering::SeqCst);
        match seen_begun.fetch_add(1, Ordering::SeqCst) {
            0 => Behavior::Respond([ok_response(), ok_response()].concat()),
            _ => Behavior::Respond(ok_response()),
        }
    })
    .await;
    let (upstream, cluster) = (TestUpstream::new(), test_server::cluster(&[&node]));
    for _ in 0..4 {
        let request = request_to(QUERY, &cluster);
        let reply = upstream.send_buffered(&request).await.unwrap();
        assert_eq!(reply.body, OK_BODY);
    }
    assert_eq!(begun.load(Ordering::SeqCst), 4);
    assert_eq!(latest.load(Ordering::SeqCst), 0, "a connection was reused");
}
