//! Links that play: `GET /recordings/{callId}` leads a player to the recording, through the same cache, limits and
//! log as the recording-URL request that the gateway makes of it. Players that send no credential get a ticket.

mod answer;
mod link;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use jiff::{SignedDuration, Timestamp};

use super::authentication::{Admission, FailedRequest};
use super::caller_authentication::act_as;
use super::context::RequestContext;
use super::response::GatewayResponse;
use super::{Account, BodyReadError, Gateway, ListenerPolicy, Rejection, RouteMatch, Snapshot};
use crate::auth::{AuthError, Signer};
use crate::ccfs::{ENDPOINTS, Endpoint, Payload, ResponseKind};
use crate::http_fields::JSON_UTF_8;
use crate::message::VerifiedRequest;
use crate::metrics::CallerWay;
use answer::Choice;
use link::Link;

/// How a listener serves links.
#[derive(Clone, Copy, Debug)]
pub struct PlaybackPolicy {
    /// How long a ticket opens its link.
    pub ticket_life: SignedDuration,
}

impl ListenerPolicy {
    /// Returns how links are served, if the path is that of one.
    pub(super) fn playback_of(&self, head: &Parts) -> Option<PlaybackPolicy> {
        self.playback
            .filter(|_| head.uri.path().starts_with(link::PREFIX))
    }

    /// Returns the route of the recording interface, which links take.
    fn route_of_links(&self) -> Result<RouteMatch<'_>, Rejection> {
        let route = self.longest_prefix(RECORDING_PATH)?;
        Ok(RouteMatch {
            policy: self,
            cluster: &route.cluster,
            unverified_slots: &route.unverified_slots,
            label: route.label,
            endpoint: recording_endpoint()?,
            is_link: true,
        })
    }
}

impl Gateway {
    /// Answers a link, or issues a ticket for one.
    pub(super) async fn play<B>(
        self: &Arc<Self>,
        (snapshot, playback): (&Snapshot, PlaybackPolicy),
        head: &mut Parts,
        incoming: &mut B,
        context: &mut RequestContext,
    ) -> Result<GatewayResponse, Rejection>
    where
        B: http_body::Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        // What does not depend on the client.
        context.is_link = true;
        let route = snapshot
            .listener_policy(&context.listener)?
            .route_of_links()?;
        context.record_route(&route);
        let link = Link::parse(&head.uri)?;
        check_method(&link, &head.method)?;
        let choice = Choice::of(&link, &mut head.headers);

        // Who asks, and whether it may.
        let (signer, account) = match &link.ticket {
            Some(ticket) => self.authenticate_ticket(ticket, &link, (head, &route), context)?,
            None => match self.authenticate(head, incoming, &route, context).await? {
                Admission::Verified {
                    signer, account, ..
                } => (signer, account),
                // Links are never forwarded unverified.
                Admission::Unverified { .. } => {
                    return Err(Rejection::Unauthenticated(AuthError::Missing));
                }
            },
        };
        if link.asks_for_ticket && context.caller.is_none() {
            return Err(Rejection::Forbidden("a client that signs needs no ticket"));
        }
        context.acquire_slot()?;
        context.admit(&signer, &account, head, route.endpoint)?;
        let payload = normalize(&link, route.endpoint, context, &account)?;
        if link.asks_for_ticket {
            return issue_ticket(&link, playback, context);
        }

        // The recording-URL request, signed by the gateway whoever asks.
        if !snapshot.limits.hits_are_free {
            self.charge(context, &account, route.endpoint).await?;
        }
        head.method = Method::POST;
        head.uri = Uri::from(PathAndQuery::from_static(RECORDING_PATH));
        let payer = context.payer(&account);
        let request = VerifiedRequest {
            payload,
            signer: signer.on_behalf(),
            endpoint: route.endpoint,
            cluster: route.cluster.clone(),
            not_after: payer.not_after(),
        };
        account.count_recording(context.now);
        let mut response = self.recording(context, head, request, payer).await?;
        self.add_hint(context, &mut response);
        Ok(context.answer_link(route.endpoint, response, choice))
    }

    /// Verifies a ticket. It counts alone: another credential beside it is refused.
    fn authenticate_ticket(
        &self,
        ticket: &str,
        link: &Link,
        (head, route): (&Parts, &RouteMatch<'_>),
        context: &mut RequestContext,
    ) -> Result<(Signer, Arc<Account>), Rejection> {
        let proven = match &route.policy.callers {
            Some(callers) if !callers.index.has_credential(&head.headers) => {
                let scope = link.scope(&context.listener);
                let keys = (&*context.snapshot.ticket_keys, context.now);
                callers.index.of_ticket(ticket, &scope, keys)
            }
            Some(_) => Err(AuthError::SeveralCredentials),
            None => Err(AuthError::WrongTicket),
        };
        let verified = proven.and_then(|proven| {
            let (signer, account) = act_as(&proven, context)?;
            Ok((proven.caller().clone(), signer, account))
        });
        match verified {
            Ok((caller, signer, account)) => {
                context.identify(&caller, CallerWay::Ticket);
                if !caller.settings.may_use(route.endpoint.name) {
                    return Err(Rejection::Forbidden(
                        "the caller may not use this interface",
                    ));
                }
                Ok((signer, account))
            }
            Err(error) => {
                let request = FailedRequest::new(head, None, route);
                Err(self.authentication_failed(&error, context, request))
            }
        }
    }
}

impl RequestContext {
    /// Makes the answer to a link, and records whether it gives the recording out.
    fn answer_link(
        &mut self,
        endpoint: &Endpoint,
        response: GatewayResponse,
        choice: Choice,
    ) -> GatewayResponse {
        self.record_given(endpoint, &response);
        let code = self.record.result_code.as_deref();
        let is_success = code.is_some_and(|code| self.snapshot.rules.is_success_code(code));
        let (response, is_given) = answer::answer(response, (code, is_success), choice);
        self.record.gives_recording &= is_given;
        response
    }
}

fn check_method(link: &Link, method: &Method) -> Result<(), Rejection> {
    match (link.asks_for_ticket, method) {
        (false, &Method::GET | &Method::HEAD) | (true, &Method::POST) => Ok(()),
        (false, _) => Err(Rejection::LinkMethodNotAllowed),
        (true, _) => Err(Rejection::MethodNotAllowed(Method::POST)),
    }
}

/// Makes the payload of a link, as of a recording-URL request. It is validated whatever the listener says, since the
/// gateway wrote it.
fn normalize(
    link: &Link,
    endpoint: &Endpoint,
    context: &mut RequestContext,
    account: &Account,
) -> Result<Payload, Rejection> {
    match endpoint.normalize(&link.body().into(), &account.tenant) {
        Ok(payload) => {
            context.record_payload(&payload, account);
            Ok(payload)
        }
        Err(invalid) => {
            context.record_invalid(&invalid);
            Err(Rejection::InvalidLink(invalid))
        }
    }
}

fn issue_ticket(
    link: &Link,
    playback: PlaybackPolicy,
    context: &RequestContext,
) -> Result<GatewayResponse, Rejection> {
    let caller = context.caller.as_ref().ok_or(Rejection::Internal)?;
    let end = context.now.as_second() + playback.ticket_life.as_secs();
    let end = Timestamp::from_second(end).map_err(|_| Rejection::Internal)?;
    let scope = link.scope(&context.listener);
    let ticket = scope.issue(&context.snapshot.ticket_keys, &**caller, end);
    let body = serde_json::json!({ "url": link.with_ticket(&ticket), "expires": end.to_string() });
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::CONTENT_TYPE, JSON_UTF_8);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(GatewayResponse::of_ticket(
        StatusCode::OK,
        headers,
        body.to_string().into(),
    ))
}

/// Returns the recording interface.
fn recording_endpoint() -> Result<&'static Endpoint, Rejection> {
    let mut rows = ENDPOINTS.iter();
    rows.find(|row| row.response == ResponseKind::SignedUrl)
        .ok_or(Rejection::Internal)
}

/// The path of the recording interface.
const RECORDING_PATH: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
