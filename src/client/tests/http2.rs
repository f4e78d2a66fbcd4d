use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

#[tokio::test]
async fn over_http2_requests_share_a_connection() {
    let authority = CertificateAuthority::new().unwrap();
    let tls = authority
        .issue(&CERTIFIED)
        .unwrap()
        .server_config()
        .unwrap();
    let mut tls = Arc::unwrap_or_clone(tls);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(tls))
            .accept(stream)
            .await
            .unwrap();
        let authority = service_fn(async |request: http::Request<Incoming>| {
            let authority = request.uri().authority().unwrap().to_string();
            Ok::<_, hyper::Error>(http::Response::new(authority))
        });
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http.serve_connection(TokioIo::new(stream), authority).await
    };
    let trust = Trust::Roots(authority.roots().unwrap());
    let client = Client::new(&trust)
        .unwrap()
        .with_idle_connections(1)
        .http2_only();
    let requests = async {
        let request = ClientRequest::post(&url, "{}")
            .unwrap()
            .with_header(HOST, "cc-fs.example.com:1");
        client.send(&request).await.unwrap();
        let responses = join_all((0..10).map(|_| client.send(&request))).await;
        for response in responses {
            assert_eq!(response.unwrap().body, "cc-fs.example.com:1");
        }
    };
    tokio::select! {
        ended = server => panic!("{ended:?}"),
        () = requests => {}
    }
}
