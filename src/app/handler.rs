//! The gateway as a listener sees it: neither knows the other.

use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;

use crate::gateway::{Gateway, ReadError, Rejection, ReplyBody};
use crate::listener::{BodyError, Handler, Peer, RequestBody, Violation};
use crate::telemetry::Origin;

/// The gateway as a listener sees it.
#[derive(Debug)]
pub(super) struct Adapter(pub(super) Arc<Gateway>);

impl Handler for Adapter {
    type Body = ReplyBody;

    fn handle(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<ReplyBody>> + Send + 'static {
        let request = request.map(|body| {
            body.map_err(|fault| match fault {
                BodyError::Gone => ReadError::Gone,
                BodyError::Malformed => ReadError::Malformed,
            })
        });
        self.0.handle(origin(peer), request)
    }

    fn refuse(&self, peer: &Arc<Peer>, violation: &Violation) -> Response<bytes::Bytes> {
        let rejection = match violation {
            Violation::HeadTimeout => Rejection::RequestTimeout,
            Violation::Malformed(rule) => Rejection::Malformed(rule),
            Violation::Method => Rejection::MethodNeverAllowed,
            Violation::TooLarge => Rejection::HeadersTooLarge,
        };
        self.0.refuse(origin(peer), &rejection)
    }
}

fn origin(peer: &Peer) -> Origin {
    Origin {
        listener: peer.listener.clone(),
        port: peer.port,
        client: peer.address.ip(),
        tls: peer.tls,
    }
}
