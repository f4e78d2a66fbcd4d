//! When a connection is parked. The rest is tested over sockets.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::task::Waker;

use super::*;
use crate::drain;
use crate::listener::ConnectionInfo;
use crate::listener::connection_limits::ConnectionLimits;
use crate::listener::tests::support::Options;
use crate::metrics::Metrics;

/// One connection whose client is quiet for longer than `park_after` at once.
struct Quiet {
    state: Arc<Http1State>,
    settings: Settings,
    context: ConnectionContext,
    _trigger: drain::Trigger,
}

impl Quiet {
    fn new() -> Self {
        let Options {
            mut settings,
            limits,
            ..
        } = Options::default();
        settings.park_after = Duration::ZERO;
        let limits = ConnectionLimits::new(limits, Metrics::default().add_shard());
        let (trigger, drain) = drain::channel();
        let info = ConnectionInfo {
            client_address: (Ipv4Addr::LOCALHOST, 1).into(),
            listener: "test".into(),
            local_port: 1,
            tls_version: None,
            client_certificate: None,
        };
        Self {
            state: Arc::new(Http1State::new(0)),
            settings,
            context: ConnectionContext {
                info: Arc::new(info),
                permit: limits.admit(None).unwrap(),
                drain,
            },
            _trigger: trigger,
        }
    }

    fn step(&self, is_parked: bool) -> Poll<Step> {
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        Http1Timeouts::new(
            self.state.clone(),
            &self.settings,
            &self.context,
            sleep.as_mut(),
        )
        .check(is_parked, &mut Context::from_waker(Waker::noop()))
    }
}

#[tokio::test]
async fn it_is_parked_once_it_is_quiet() {
    let mut quiet = Quiet::new();
    assert_eq!(quiet.step(false), Poll::Ready(Step::Park));
    assert_eq!(quiet.step(true), Poll::Pending, "it is parked already");
    quiet.settings.park_after = Duration::from_secs(20);
    assert_eq!(quiet.step(false), Poll::Pending, "not yet");
}

#[tokio::test]
async fn it_is_not_parked_with_anything_open_or_as_the_last() {
    type Opens = fn(&Http1State);
    let cases: [(&str, Opens); 7] = [
        ("part of a head", |state| state.set_reading(Reading::Head)),
        ("part of a body", |state| state.set_reading(Reading::Body)),
        ("a request in flight", |state| state.progress.count_head()),
        ("bytes to be written", |state| {
            state.progress.set_write_blocked(true);
        }),
        ("the end of the client's bytes", Http1State::set_eof),
        ("hyper is closing", Http1State::set_shut_down),
        (
            "its response was the last",
            Http1State::close_after_response,
        ),
    ];
    for (case, open) in cases {
        let quiet = Quiet::new();
        open(&quiet.state);
        assert_eq!(quiet.step(false), Poll::Pending, "{case}");
    }
    let quiet = Quiet::new();
    quiet.state.progress.count_head();
    quiet.state.progress.count_response();
    assert_eq!(quiet.step(false), Poll::Ready(Step::Park), "answered");
}
