//! Adapts [`Gateway`] to the listener's [`Handler`] trait; neither module depends on the other.

use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;

use crate::gateway::{BodyReadError, Gateway, Rejection, ResponseBody};
use crate::listener::{BodyError, ConnectionInfo, Handler, ProtocolError, RequestBody};
use crate::telemetry::RequestOrigin;

/// The listener-side handler of one worker's gateway.
#[derive(Debug)]
pub(super) struct GatewayHandler(pub(super) Arc<Gateway>);

impl Handler for GatewayHandler {
    type Body = ResponseBody;

    fn handle(
        self: &Arc<Self>,
        connection: &Arc<ConnectionInfo>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + 'static {
        let mut request = request.map(|body| {
            body.map_err(|error| match error {
                BodyError::ConnectionClosed => BodyReadError::ClientGone,
                BodyError::Malformed => BodyReadError::Malformed,
            })
        });
        if let Some(certificate) = &connection.client_certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        self.0.handle(origin(connection), request)
    }

    fn reject(
        &self,
        connection: &Arc<ConnectionInfo>,
        error: &ProtocolError,
    ) -> Response<bytes::Bytes> {
        let rejection = match error {
            ProtocolError::HeadTimeout => Rejection::RequestTimeout,
            ProtocolError::Malformed(rule) => Rejection::Malformed(rule),
            ProtocolError::MethodNotAllowed => Rejection::MethodNeverAllowed,
            ProtocolError::HeadTooLarge => Rejection::HeadersTooLarge,
        };
        self.0.reject(origin(connection), &rejection)
    }
}

fn origin(connection: &ConnectionInfo) -> RequestOrigin {
    RequestOrigin {
        listener: connection.listener.clone(),
        port: connection.local_port,
        client: connection.client_address.ip(),
        tls: connection.tls_version,
    }
}
