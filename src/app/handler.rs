//! The gateway as a listener sees it: neither knows the other.

use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;

use crate::gateway::{BodyReadError, Gateway, Rejection, ResponseBody};
use crate::listener::{BodyError, ConnectionInfo, Handler, ProtocolError, RequestBody};
use crate::telemetry::RequestOrigin;

/// The gateway as a listener sees it.
#[derive(Debug)]
pub(super) struct GatewayHandler(pub(super) Arc<Gateway>);

impl Handler for GatewayHandler {
    type Body = ResponseBody;

    fn handle(
        self: &Arc<Self>,
        peer: &Arc<ConnectionInfo>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + 'static {
        let request = request.map(|body| {
            body.map_err(|fault| match fault {
                BodyError::ConnectionClosed => BodyReadError::ClientGone,
                BodyError::Malformed => BodyReadError::Malformed,
            })
        });
        self.0.handle(origin(peer), request)
    }

    fn reject(
        &self,
        peer: &Arc<ConnectionInfo>,
        violation: &ProtocolError,
    ) -> Response<bytes::Bytes> {
        let rejection = match violation {
            ProtocolError::HeadTimeout => Rejection::RequestTimeout,
            ProtocolError::Malformed(rule) => Rejection::Malformed(rule),
            ProtocolError::MethodNotAllowed => Rejection::MethodNeverAllowed,
            ProtocolError::HeadTooLarge => Rejection::HeadersTooLarge,
        };
        self.0.reject(origin(peer), &rejection)
    }
}

fn origin(peer: &ConnectionInfo) -> RequestOrigin {
    RequestOrigin {
        listener: peer.listener.clone(),
        port: peer.local_port,
        client: peer.client_address.ip(),
        tls: peer.tls_version,
    }
}
