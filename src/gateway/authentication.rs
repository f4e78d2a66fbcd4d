//! Authentication: reads the body, verifies the signature, and charges the client address for failures.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::request::Parts;

use super::context::RequestContext;
use super::signature_doctor::{Case, CaseOrigin};
use super::{Account, BodyReadError, Gateway, Rejection, RouteMatch, request_body};
use crate::auth::{self, AuthError, Claim, Signable, Signer};
use crate::ccfs::Endpoint;
use crate::metrics::{AuthResult, Claimant, Decision, Incident, Limiter, Unverified};

/// The result of authentication.
#[derive(Debug)]
pub(super) enum Admission {
    /// The signature is right.
    Verified {
        signer: Signer,
        account: Arc<Account>,
        body: Bytes,
    },
    /// Not verified, and to be forwarded all the same.
    Unverified { body: Bytes },
}

impl Gateway {
    /// Reads the body and verifies the signature, or decides that the request is forwarded unverified.
    ///
    /// Everything that depends on the configured keys comes after the body is read, so that an unknown
    /// access key and a wrong signature are indistinguishable from outside (same steps, same timing).
    pub(super) async fn authenticate<B>(
        &self,
        head: &Parts,
        incoming: &mut B,
        route: &RouteMatch<'_>,
        context: &mut RequestContext,
    ) -> Result<Admission, Rejection>
    where
        B: http_body::Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        let endpoint = route.endpoint;
        let body_limits = request_body::Limits::new(&context.snapshot.limits, endpoint);
        body_limits.check_content_length(incoming)?;
        if let Some(callers) = &route.policy.callers {
            let request = FailedRequest::new(head, None, route);
            if let Some(presented) = self.presented_by_caller(callers, context, request)? {
                let request = (head, incoming);
                let authenticate = self.authenticate_caller(presented, request, route, context);
                return Box::pin(authenticate).await;
            }
        }
        if !endpoint.authenticated && !head.headers.contains_key(header::AUTHORIZATION) {
            if route.mentions_credential(head) {
                let request = FailedRequest::new(head, None, route);
                return Err(self.authentication_failed(&AuthError::OtherScheme, context, request));
            }
            self.charge_address(context, endpoint)?;
            let body = body_limits.read(incoming, context).await?;
            return Ok(Admission::Unverified { body });
        }
        let claim = Claim::parse(&head.headers, context.now, context.snapshot.clock_window);
        if let Err(error) = &claim
            && !route.may_forward_unverified(error)
            && !route.shadows(error)
        {
            let request = FailedRequest::new(head, None, route);
            return Err(self.authentication_failed(error, context, request));
        }
        let body = body_limits.read(incoming, context).await?;
        match claim.and_then(|claim| verify(&claim, head, &body, context)) {
            Ok((signer, account)) => Ok(Admission::Verified {
                signer,
                account,
                body,
            }),
            Err(error) => self.admit_unverified(&error, body, (head, route), context),
        }
    }

    /// Rejects a request that did not verify, or decides that it is forwarded all the same.
    pub(super) fn admit_unverified(
        &self,
        error: &AuthError,
        body: Bytes,
        (head, route): (&Parts, &RouteMatch<'_>),
        context: &mut RequestContext,
    ) -> Result<Admission, Rejection> {
        let request = FailedRequest::new(head, Some(&body), route);
        let shadows = route.shadows(error);
        let forwards =
            shadows || route.forwards_unverified(error, &head.headers, &context.snapshot);
        if !forwards || route.mentions_credential(head) {
            return Err(self.authentication_failed(error, context, request));
        }
        if shadows {
            self.shadow(error, context, request);
            return Ok(Admission::Unverified { body });
        }
        context.record.metrics().count(AuthResult::Forwarded);
        context.record_claimed_key(&head.headers);
        let class = AuthResult::Forwarded;
        note_unverified(context, head, class, Failure::default());
        self.charge_address(context, route.endpoint)?;
        Ok(Admission::Unverified { body })
    }

    /// Counts and records a failed authentication that shadow authentication forwards. The budget of the
    /// address is charged, but refuses nothing.
    fn shadow(&self, error: &AuthError, context: &mut RequestContext, request: FailedRequest<'_>) {
        let FailedRequest { head, route, .. } = request;
        context.record.metrics().count(AuthResult::Shadowed);
        note_failure(context, head, error, 1);
        context.record_claimed_key(&head.headers);
        context.record.reason = Some(error.to_string().into());
        self.put_aside(error, context, request);
        let charged = self.acquire_for_address(context, route.endpoint);
        let _counted = context.unless_dry_run(true, charged);
    }

    /// Charges the address for a failed authentication: 401 while its budget lasts, then 429.
    pub(super) fn authentication_failed(
        &self,
        error: &AuthError,
        context: &mut RequestContext,
        request: FailedRequest<'_>,
    ) -> Rejection {
        let FailedRequest { head, route, .. } = request;
        context.record.metrics().count(auth_label(error));
        note_failure(context, head, error, 0);
        context.record_claimed_key(&head.headers);
        match self.charge_address(context, route.endpoint) {
            Ok(()) => {
                self.put_aside(error, context, request);
                Rejection::Unauthenticated(error.clone())
            }
            Err(limited) => limited,
        }
    }

    /// Puts a request that claims an access key aside for the signature doctor. What it needs does not depend
    /// on the configured keys.
    fn put_aside(&self, error: &AuthError, context: &RequestContext, request: FailedRequest<'_>) {
        let FailedRequest { head, body, route } = request;
        if auth::claimed_access_key(&head.headers).is_none() {
            return;
        }
        let record = &context.record;
        self.state.doctor.put_aside(|| {
            let origin = CaseOrigin {
                request_id: record.request_id.clone(),
                client: record.client.to_canonical(),
                at: context.now,
                cluster: route.cluster.clone(),
                listener: (route.policy.bind_ip, record.port),
            };
            Case::new(origin, head, body, error.clone())
        });
    }

    fn charge_address(
        &self,
        context: &mut RequestContext,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        let is_dry_run = context.snapshot.limits.dry_run;
        context.unless_dry_run(is_dry_run, self.acquire_for_address(context, endpoint))
    }

    fn acquire_for_address(
        &self,
        context: &RequestContext,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        self.state
            .address_limiter
            .load()
            .try_acquire(context.record.client)
            .inspect(|()| context.record.metrics().count(Decision::AddressAllowed))
            .map_err(|exceeded| Rejection::RateLimited {
                limiter: Limiter::Address,
                exceeded: Some(exceeded),
                code: endpoint.flow_control_code,
            })
    }
}

/// A request that did not verify.
#[derive(Clone, Copy)]
pub(super) struct FailedRequest<'a> {
    pub(super) head: &'a Parts,
    /// `None` before it is read.
    pub(super) body: Option<&'a Bytes>,
    pub(super) route: &'a RouteMatch<'a>,
}

impl<'a> FailedRequest<'a> {
    pub(super) fn new(head: &'a Parts, body: Option<&'a Bytes>, route: &'a RouteMatch<'a>) -> Self {
        Self { head, body, route }
    }
}

/// Returns what a signature of a request covers.
pub(super) fn signable<'a>(head: &'a Parts, body: &'a Bytes) -> Signable<'a> {
    Signable {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body,
    }
}

/// Verifies the claim with the account's secrets, or with a dummy secret of the same cost.
fn verify(
    claim: &Claim<'_>,
    head: &Parts,
    body: &Bytes,
    context: &RequestContext,
) -> Result<(Signer, Arc<Account>), AuthError> {
    let account = context.snapshot.account(claim.access_key());
    let usable = account.filter(|account| account.is_usable(context.now));
    let request = signable(head, body);
    let verified = claim.verify(usable.map(|account| &account.credential), &request);
    let signer = match (verified, account) {
        // The same work was done with a dummy secret.
        (Err(AuthError::UnknownKey), Some(_)) => return Err(AuthError::Disabled),
        (verified, _) => verified?,
    };
    // Without an account, `Claim::verify` has failed already.
    let account = account.ok_or(AuthError::UnknownKey)?;
    if signer.has_used_second_secret() {
        account.record_second_secret(context.now);
    }
    Ok((signer, account.clone()))
}

/// What is noted of a failure beside its class.
#[derive(Clone, Copy, Default)]
struct Failure {
    seconds_ahead: i64,
    /// 1 if shadow authentication forwards the request.
    shadowed: u64,
}

/// Notes whose request failed to verify, and why.
fn note_failure(context: &RequestContext, head: &Parts, error: &AuthError, shadowed: u64) {
    let failure = Failure {
        seconds_ahead: match error {
            AuthError::Stale(seconds) => *seconds,
            _ => 0,
        },
        shadowed,
    };
    note_unverified(context, head, auth_label(error), failure);
}

/// Notes whose request did not verify, the same way for known and unknown access keys.
fn note_unverified(context: &RequestContext, head: &Parts, class: AuthResult, failure: Failure) {
    let claimed = auth::claimed_access_key(&head.headers).unwrap_or_default();
    let unverified = Unverified {
        count: 1,
        shadowed: failure.shadowed,
        address: context.record.client,
        seconds_ahead: failure.seconds_ahead,
    };
    let incident = Incident::Unverified(Claimant::new(claimed, class), unverified);
    context.record.metrics().note(incident);
}

fn auth_label(error: &AuthError) -> AuthResult {
    match error {
        AuthError::AmbiguousCertificate
        | AuthError::UnknownApiKey
        | AuthError::WrongAppSignature(_)
        | AuthError::WrongTicket
        | AuthError::WrongToken(_) => AuthResult::WrongCredential,
        AuthError::CallerDisabled | AuthError::Disabled => AuthResult::Disabled,
        AuthError::Missing => AuthResult::Missing,
        AuthError::OtherScheme => AuthResult::OtherScheme,
        AuthError::SeveralCredentials => AuthResult::SeveralCredentials,
        AuthError::Stale(_) => AuthResult::Stale,
        AuthError::UnknownKey => AuthResult::UnknownKey,
        AuthError::WrongSignature => AuthResult::WrongSignature,
        AuthError::SignedFieldMissing(_)
        | AuthError::Malformed(_)
        | AuthError::RepeatedAuthorization
        | AuthError::RepeatedQueryKey => AuthResult::Malformed,
    }
}
