//! `validation = "shadow"` and `"off"`.

use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::assertions::assert_gateway_error;
use crate::invalid::with;
use crate::support::{SHANGHAI, Setup, UNKNOWN, signed};

#[tokio::test]
async fn shadow_rejects_nothing_and_treats_valid_requests_as_enforce() {
    let setup = Setup {
        listener: "validation = \"shadow\"".into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    for (body, content_type) in [
        (with(&[("callId", None)]), "application/json"),
        (with(&[("beginTime", Some("x".into()))]), "application/json"),
        ("no json".into(), "application/json"),
        (with(&[("version", None)]), "text/plain"),
    ] {
        let request = env.post(body).with_header(CONTENT_TYPE, content_type);
        let request = signed(request, SHANGHAI);
        for _ in 0..2 {
            let response = env.send(&request).await;
            assert_eq!(
                (response.status.as_u16(), response.header("x-gateway-error")),
                (200, None)
            );
            assert_eq!(response.header("age"), None);
            let got = env.sole_upstream_request();
            assert_eq!(got.body, request.body);
            assert_eq!(
                got.header("authorization"),
                request.headers["authorization"].to_str().ok()
            );
            assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        }
    }
    let versionless = signed(env.post(with(&[("version", None)])), SHANGHAI);
    let first = env.send(&versionless).await;
    let got: Value = serde_json::from_slice(&env.sole_upstream_request().body).unwrap();
    assert_eq!(
        (&got["version"], &got["beginTime"]),
        (&json!("2.0"), &json!("2022-01-02 18:00:00"))
    );
    let second = env.send(&versionless).await;
    assert_eq!(first.body, second.body);
    env.assert_no_upstream_request();
    // Authentication does not depend on `validation`.
    let response = env.send(&signed(env.post("no json"), UNKNOWN)).await;
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn off_ignores_bodies() {
    for host in ["preserve", "node"] {
        let setup = Setup {
            listener: "validation = \"off\"".into(),
            cluster: format!("host = \"{host}\""),
            ..Setup::default()
        };
        let env = setup.start().await;
        for body in [
            with(&[]),
            with(&[("version", None)]),
            "no json".into(),
            String::new(),
        ] {
            let request = signed(
                env.post(body).with_header(CONTENT_TYPE, "text/plain"),
                SHANGHAI,
            );
            for _ in 0..2 {
                let response = env.send(&request).await;
                assert_eq!(
                    (response.status.as_u16(), response.header("x-gateway-error")),
                    (200, None)
                );
                let got = env.sole_upstream_request();
                assert_eq!(got.body, request.body);
                assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
                let kept =
                    got.header("authorization") == request.headers["authorization"].to_str().ok();
                assert_eq!(kept, host == "preserve");
            }
        }
        let envelope = signed(env.post_to("queryBillData", "{\"msgBody\":{}}"), SHANGHAI);
        env.send(&envelope).await;
        assert_eq!(env.sole_upstream_request().body, envelope.body);
    }
}
