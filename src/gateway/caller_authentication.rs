//! Authentication of callers without a secret key. Only listeners on which one may ask come here.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::authentication::{Admission, FailedRequest, signable};
use super::caller::{Caller, ListenerCallers};
use super::context::RequestContext;
use super::{Account, BodyReadError, Gateway, Rejection, RouteMatch, browser, request_body};
use crate::auth::{AuthError, Presented, Proven, Signer};
use crate::http_fields::JSON_UTF_8;
use crate::metrics::{CallerWay, Limiter};
use crate::tls::ClientCertificate;

/// What a request presents for a caller.
pub(super) enum CallerCredential<'a> {
    /// A client certificate, which is known to be a caller's.
    Certificate(Proven<Caller>),
    /// Anything in the place of an API key. Whether it is one is asked after the body was read, so that the time
    /// of the answer tells nothing.
    ApiKey(&'a [u8]),
    /// Anything in the form of a token.
    Token(&'a [u8]),
    /// A signature in the scheme of Huawei's signers. It may be of no app that is known here.
    AppSignature,
}

impl Gateway {
    /// Finds what a request presents for a caller; `None` leaves it to its signature.
    ///
    /// # Errors
    /// More than one credential, or a certificate of more than one caller.
    pub(super) fn presented_by_caller<'a>(
        &self,
        callers: &ListenerCallers,
        context: &mut RequestContext,
        request: FailedRequest<'a>,
    ) -> Result<Option<CallerCredential<'a>>, Rejection> {
        let FailedRequest { head, route, .. } = request;
        let proven = match callers.index.presented(&head.headers) {
            Ok(Presented::Other) => return Ok(None),
            Ok(Presented::ApiKey(key)) => return Ok(Some(CallerCredential::ApiKey(key))),
            Ok(Presented::Token(token)) => return Ok(Some(CallerCredential::Token(token))),
            Ok(Presented::AppSignature) => return Ok(Some(CallerCredential::AppSignature)),
            // A certificate is presented unasked: where none is needed it says nothing.
            Ok(Presented::Nothing) if !route.endpoint.authenticated => return Ok(None),
            Ok(Presented::Nothing) => of_certificate(callers, head, context),
            Err(error) => Err(error),
        };
        match proven {
            Ok(proven) => Ok(proven.map(CallerCredential::Certificate)),
            Err(error) => Err(self.authentication_failed(&error, context, request)),
        }
    }

    /// Reads the body of a caller's request, verifies the credential, and decides whether the caller may make
    /// the request.
    pub(super) async fn authenticate_caller<B>(
        &self,
        credential: CallerCredential<'_>,
        request: (&Parts, &mut B),
        route: &RouteMatch<'_>,
        context: &mut RequestContext,
    ) -> Result<Admission, Rejection>
    where
        B: http_body::Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        let (head, incoming) = request;
        let way = credential.way();
        // A credential of the head is verified first: what its caller may not ask needs no body.
        let proven = match credential {
            CallerCredential::Certificate(proven) => Some(Ok(proven)),
            CallerCredential::ApiKey(key) => Some(of_api_key(route, key)),
            CallerCredential::Token(token) => Some(self.of_token(route, token, context)?),
            CallerCredential::AppSignature => None,
        };
        let is_refused =
            matches!(&proven, Some(Ok(proven)) if is_refused(proven, (head, route), context));
        let body = if is_refused {
            Bytes::new()
        } else {
            let limits = request_body::Limits::new(&context.snapshot.limits, route.endpoint);
            limits.read(incoming, context).await?
        };
        let proven = proven.unwrap_or_else(|| of_app_signature(route, (head, &body), context));
        let verified = proven.and_then(|proven| {
            let (signer, account) = act_as(&proven, context)?;
            Ok((proven.caller().clone(), signer, account))
        });
        let (caller, signer, account) = match verified {
            Ok(verified) => verified,
            // Of no app that is known here: for this listener the scheme is as any other.
            Err(AuthError::OtherScheme) => {
                return self.admit_unverified(
                    &AuthError::OtherScheme,
                    body,
                    (head, route),
                    context,
                );
            }
            Err(error) => {
                let request = FailedRequest::new(head, None, route);
                return Err(self.authentication_failed(&error, context, request));
            }
        };
        context.identify(&caller, way);
        if way == CallerWay::Certificate {
            browser::check(head)?;
        }
        Ok(Admission::Verified {
            signer,
            account,
            body,
        })
    }

    /// Finds the caller of a token. One that is not remembered is verified only while the client's address has a
    /// budget for failures, so that a flood of forged signatures costs no time.
    ///
    /// # Errors
    /// The address has none left. The inner one: the token identifies no caller.
    fn of_token(
        &self,
        route: &RouteMatch<'_>,
        token: &[u8],
        context: &mut RequestContext,
    ) -> Result<Result<Proven<Caller>, AuthError>, Rejection> {
        let Some(callers) = &route.policy.callers else {
            return Ok(Err(AuthError::Missing));
        };
        if let Some(proven) = callers.index.of_remembered_token(token, context.now) {
            return Ok(Ok(proven));
        }
        let addresses = self.state.address_limiter.load();
        let charge = addresses.charge(context.record.client);
        if let Err(exceeded) = &charge {
            let limited = Err(Rejection::RateLimited {
                limiter: Limiter::Address,
                exceeded: Some(*exceeded),
                code: route.endpoint.flow_control_code,
            });
            let is_dry_run = context.snapshot.limits.dry_run;
            context.unless_dry_run(is_dry_run, limited)?;
        }
        let proven = callers.index.of_token(token, context.now);
        // A failure is charged with the others of all ways.
        if let Ok(charge) = &charge {
            addresses.refund(charge);
        }
        Ok(proven)
    }
}

impl CallerCredential<'_> {
    fn way(&self) -> CallerWay {
        match self {
            Self::Certificate(_) => CallerWay::Certificate,
            Self::ApiKey(_) => CallerWay::ApiKey,
            Self::Token(_) => CallerWay::Jwt,
            Self::AppSignature => CallerWay::SdkHmac,
        }
    }
}

impl RequestContext {
    /// Checks that the caller of an admitted request, if it has one, may use the interface.
    pub(super) fn check_interface(
        &self,
        route: &RouteMatch<'_>,
        head: &Parts,
    ) -> Result<(), Rejection> {
        let caller = self.caller.as_ref();
        caller.map_or(Ok(()), |caller| check_interface(caller, route, head))
    }

    /// Records which caller a request is from.
    pub(super) fn identify(&mut self, caller: &Arc<Caller>, way: CallerWay) {
        self.record.metrics().count(way);
        self.record.access_key = Some(caller.settings.access_key.shared());
        self.record.details_mut().caller = Some(caller.name().clone());
        self.caller_way = Some(way);
        self.caller = Some(caller.clone());
    }
}

/// Finds the caller of an API key.
fn of_api_key(route: &RouteMatch<'_>, key: &[u8]) -> Result<Proven<Caller>, AuthError> {
    let callers = route.policy.callers.as_ref();
    let callers = callers.ok_or(AuthError::UnknownApiKey)?;
    callers.index.of_api_key(key)
}

/// Finds the caller whose app signed a request, if the path is literally that of an interface: what else the signers
/// make of a path need not be known.
fn of_app_signature(
    route: &RouteMatch<'_>,
    (head, body): (&Parts, &Bytes),
    context: &RequestContext,
) -> Result<Proven<Caller>, AuthError> {
    let callers = route.policy.callers.as_ref();
    let callers = callers.ok_or(AuthError::OtherScheme)?;
    let request = signable(head, body);
    let proven = callers.index.of_app_signature(&request, context.now)?;
    if route.is_link || route.endpoint.is_unlisted() {
        return Err(AuthError::WrongAppSignature("not the path of an interface"));
    }
    Ok(proven)
}

/// Finds the caller of the certificate that the connection's client presented.
fn of_certificate(
    callers: &ListenerCallers,
    head: &Parts,
    context: &RequestContext,
) -> Result<Option<Proven<Caller>>, AuthError> {
    let certificate = head.extensions.get::<Arc<ClientCertificate>>();
    let (Some(certificate), Some(identities)) = (certificate, &callers.identities) else {
        return Ok(None);
    };
    let names = certificate.names(identities, context.now);
    callers.index.of_certificate(&names)
}

/// Returns the account that a caller acts as, if both are usable.
pub(super) fn act_as(
    proven: &Proven<Caller>,
    context: &RequestContext,
) -> Result<(Signer, Arc<Account>), AuthError> {
    let caller = proven.caller();
    if !caller.is_usable(context.now) {
        return Err(AuthError::CallerDisabled);
    }
    let account = context
        .snapshot
        .account(caller.settings.access_key.as_str())
        .ok_or(AuthError::UnknownKey)?;
    if !account.is_usable(context.now) {
        return Err(AuthError::Disabled);
    }
    Ok((proven.signer(&account.credential)?, account.clone()))
}

/// Whether a usable caller may not make a request, whatever its body. A caller that is not usable is refused like a
/// wrong credential, after the body.
fn is_refused(
    proven: &Proven<Caller>,
    (head, route): (&Parts, &RouteMatch<'_>),
    context: &RequestContext,
) -> bool {
    check_interface(proven.caller(), route, head).is_err() && act_as(proven, context).is_ok()
}

/// Checks that a caller may use an interface, in the one form in which it reaches a node.
fn check_interface(caller: &Caller, route: &RouteMatch<'_>, head: &Parts) -> Result<(), Rejection> {
    if route.endpoint.is_unlisted() {
        return Err(Rejection::NotFound("no interface of that path"));
    }
    if !caller.settings.may_use(route.endpoint.name) {
        return Err(Rejection::Forbidden(
            "the caller may not use this interface",
        ));
    }
    if !route.is_link && head.uri.query().is_some() {
        return Err(Rejection::Malformed("an interface has no query"));
    }
    Ok(())
}

/// Makes the fields that go to a node for a caller anew: nothing of the client's own head is in them but Host.
pub(super) fn fields_made_anew(method: &Method, head: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    for value in head.get_all(header::HOST) {
        headers.append(header::HOST, value.clone());
    }
    if *method == Method::POST {
        headers.insert(header::CONTENT_TYPE, JSON_UTF_8);
    }
    headers
}
