//! A cache hit from the parsed head to the last byte of the response, without sockets, TLS and HTTP
//! framing.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::config::Config;
use ccfs_gateway::gateway::{BodyReadError, Gateway, GatewayState, ResponseBody};
use ccfs_gateway::metrics::Metrics;
use ccfs_gateway::stand_in::{Settings, StandIn};
use ccfs_gateway::telemetry::{RequestOrigin, Sink};
use ccfs_gateway::upstream::{Upstream, UpstreamSettings};
use divan::Bencher;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body::Body;
use http_body_util::combinators::MapErr;
use http_body_util::{BodyExt, Full};

use crate::site::{self, Site, access_key, credential, recording};

/// Verify, normalize, look up, respond.
#[divan::bench]
fn hit(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (gateway, listener) = runtime.block_on(filled(&Site::new(), ""));
    let signed = recording(0, CALL_ID);
    let _inside = runtime.enter();
    time(bencher, &gateway, &listener, &signed);
}

/// The same for a caller with a JSON Web Token that is remembered.
#[divan::bench]
fn hit_by_token(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let site = Site::new();
    let (keys, token) = issue();
    std::fs::write(site.path("idp.jwks"), keys).unwrap();
    let caller = format!("[callers.qa]\naccess_key = \"{}\"\n{JWT}", access_key(0));
    let (gateway, listener) = runtime.block_on(filled(&site, &caller));
    let mut request = recording(0, CALL_ID);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers.insert(AUTHORIZATION, bearer);
    let _inside = runtime.enter();
    time(bencher, &gateway, &listener, &request);
}

/// Times a request that is a hit.
fn time(
    bencher: Bencher<'_, '_>,
    gateway: &Arc<Gateway>,
    listener: &Arc<str>,
    signed: &ClientRequest,
) {
    let origin = || origin(listener);
    let incoming = || incoming(signed);
    let answered = at_once(gateway.handle(origin(), incoming()));
    assert!(cache_status(&answered).contains("; hit"));
    drain(answered);
    bencher
        .with_inputs(|| (origin(), incoming()))
        .bench_local_values(|(origin, request)| drain(at_once(gateway.handle(origin, request))));
}

/// A JWK Set, and a token of common size by its key.
fn issue() -> (String, String) {
    let key = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let header = r#"{"alg":"EdDSA","kid":"bench","typ":"JWT"}"#;
    let claims = format!(
        r#"{{"iss":"https://idp.example.com","aud":"recordings","exp":4000000000,"scope":"{}"}}"#,
        "a".repeat(600)
    );
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"bench","x":"{x}"}}]}}"#);
    (keys, format!("{signed}.{signature}"))
}

/// A gateway with one cached response, which it has fetched from a node.
async fn filled(site: &Site, tables: &str) -> (Arc<Gateway>, Arc<str>) {
    let tls = site.leaf.server_config().unwrap();
    let node = StandIn::start(Settings::new(tls, vec![credential(0)]))
        .await
        .unwrap();
    let nodes = [node.url()];
    let setup = site::Gateway {
        nodes: &nodes,
        tables,
        ..site::Gateway::default()
    };
    let (config, _) = Config::load(&site.configure("gateway", &setup)).unwrap();
    let metrics = Metrics::default().add_shard();
    let settings = UpstreamSettings {
        max_answer: config.limits.max_answer,
        min_receive_rate: config.limits.min_receive_rate,
    };
    let shared = Arc::new(GatewayState::new(&config));
    let upstream = Arc::new(Upstream::new(settings, metrics.clone(), None));
    let sink = Sink {
        audit: None,
        access_log: None,
        metrics,
        spans: None,
        tail: Arc::default(),
    };
    let gateway = Arc::new(Gateway::new(shared, upstream, sink));
    let listener: Arc<str> = "ccfs".into();
    let request = incoming(&recording(0, CALL_ID));
    let answered = gateway.handle(origin(&listener), request).await;
    assert!(cache_status(&answered).contains("; stored"));
    drain(answered);
    (gateway, listener)
}

type Incoming = MapErr<Full<Bytes>, fn(std::convert::Infallible) -> BodyReadError>;

fn incoming(signed: &ClientRequest) -> Request<Incoming> {
    let body: Incoming = Full::new(signed.body.clone()).map_err(|never| match never {});
    let mut request = Request::new(body);
    *request.method_mut() = signed.method.clone();
    *request.uri_mut() = signed.target.parse().unwrap();
    *request.headers_mut() = signed.headers.clone();
    request
}

fn origin(listener: &Arc<str>) -> RequestOrigin {
    RequestOrigin {
        listener: listener.clone(),
        port: 28_443,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: Some("1.3"),
    }
}

/// The output of a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a hit had to wait"),
    }
}

/// Reads a response to its end, where its log record is written.
fn drain(mut response: Response<ResponseBody>) {
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = Pin::new(response.body_mut()).poll_frame(&mut context) {
        drop(frame.unwrap());
    }
}

fn cache_status(response: &Response<ResponseBody>) -> &str {
    response.headers()["cache-status"].to_str().unwrap()
}

const CALL_ID: &str = "1637742300-27";

const JWT: &str = "jwt = { jwks_file = \"idp.jwks\", issuer = \"https://idp.example.com\", audience = \"recordings\" }";
