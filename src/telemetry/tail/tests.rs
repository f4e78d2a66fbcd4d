use std::net::{IpAddr, Ipv4Addr};

use http::HeaderValue;
use jiff::Timestamp;

use super::*;
use crate::metrics::Metrics;
use crate::telemetry::{RequestOrigin, Sink};

fn poll(stream: &mut TailStream) -> Poll<Option<String>> {
    let lines = stream.poll_lines(&mut Context::from_waker(Waker::noop()));
    lines.map(|lines| lines.map(|lines| String::from_utf8(lines.to_vec()).unwrap()))
}

/// Begins and ends a request.
fn end_request(tail: &Arc<Tail>, access_key: &str, user_agent: &str) {
    let sink = Sink {
        access_log: None,
        audit: None,
        spans: None,
        metrics: Metrics::default().add_shard(),
        tail: tail.clone(),
    };
    let origin = RequestOrigin {
        listener: "ccfs".into(),
        port: 28_443,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: None,
    };
    let id = HeaderValue::from_static("id");
    let mut record = RequestRecord::begin(Arc::new(sink), origin, Timestamp::UNIX_EPOCH, id);
    record.access_key = Some(access_key.into());
    record.user_agent = Some(user_agent.parse().unwrap());
    record.outcome = RequestOutcome::Node;
}

#[test]
fn a_follower_gets_the_requests_it_asks_for() {
    let tail = Arc::<Tail>::default();
    let filter = |access_key: &str, outcome| TailFilter {
        access_key: Some(access_key.to_owned()),
        outcome: Some(outcome),
        ..TailFilter::default()
    };
    end_request(&tail, "before", "");
    let mut all = tail.follow(TailFilter::default()).unwrap();
    let mut one = tail.follow(filter("a", RequestOutcome::Node)).unwrap();
    let mut other = tail.follow(filter("a", RequestOutcome::Cached)).unwrap();
    end_request(&tail, "a", "");
    end_request(&tail, "b", "");
    let Poll::Ready(Some(lines)) = poll(&mut all) else {
        panic!("no line");
    };
    assert_eq!(lines.matches('\n').count(), 2, "{lines}");
    let Poll::Ready(Some(lines)) = poll(&mut one) else {
        panic!("no line");
    };
    assert!(lines.contains("\"gw.ak\":\"a\"") && lines.matches('\n').count() == 1);
    assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
    let wrong_call = TailFilter {
        call_id: Some("1-1".to_owned()),
        ..TailFilter::default()
    };
    let mut none = tail.follow(wrong_call).unwrap();
    end_request(&tail, "a", "");
    assert!(poll(&mut none).is_pending());
}

#[test]
fn a_slow_follower_is_told_at_their_place_how_many_lines_it_lost() {
    let tail = Arc::<Tail>::default();
    let mut stream = tail.follow(TailFilter::default()).unwrap();
    let long = "x".repeat(BUFFER_LIMIT);
    for name in ["first", "lost-1", "lost-2"] {
        end_request(&tail, name, &long);
    }
    let Poll::Ready(Some(lines)) = poll(&mut stream) else {
        panic!("no line");
    };
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, "{\"lost\":2}"));
    assert!(lines[0].contains("first"));
    end_request(&tail, "after", "");
    let Poll::Ready(Some(lines)) = poll(&mut stream) else {
        panic!("no line");
    };
    assert!(
        lines.contains("after") && !lines.contains("lost"),
        "{lines}"
    );
}

#[test]
fn followers_are_few_and_end_when_the_tail_is_closed() {
    let tail = Arc::<Tail>::default();
    let follow = || tail.follow(TailFilter::default());
    let mut streams: Vec<_> = (0..MAX_FOLLOWERS).map(|_| follow().unwrap()).collect();
    assert_eq!(follow().unwrap_err(), CannotFollow::TooMany);
    streams.pop();
    streams.push(follow().unwrap());
    assert!(tail.is_followed());
    end_request(&tail, "last", "");
    tail.close();
    assert_eq!(follow().unwrap_err(), CannotFollow::Closed);
    for stream in &mut streams {
        assert!(matches!(poll(stream), Poll::Ready(Some(_))));
        assert_eq!(poll(stream), Poll::Ready(None));
    }
    drop(streams);
    assert!(!tail.is_followed());
}
