//! Admission: the ceilings and places in flight of a verified request, of its account and its caller.

use std::sync::Arc;

use http::request::Parts;

use super::super::caller::Payer;
use super::super::{Account, Rejection};
use super::{InFlightPermit, RequestContext};
use crate::auth::Signer;
use crate::ccfs::Endpoint;
use crate::limit::RateLimited;
use crate::metrics::{AuthResult, Decision, Limiter};
use crate::telemetry::TraceContext;

impl RequestContext {
    /// Admits a verified signer: records its access key, continues its trace, charges its ceiling and
    /// takes one of its in-flight permits.
    pub(in crate::gateway) fn admit(
        &mut self,
        signer: &Signer,
        account: &Account,
        head: &Parts,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        let record = &mut self.record;
        record.metrics().count(AuthResult::Ok);
        record.access_key = Some(signer.access_key().shared());
        let parent = head.headers.get(TraceContext::HEADER);
        if let Some(trace) =
            parent.and_then(|value| TraceContext::from_traceparent(value.as_bytes()))
        {
            record.trace = trace;
        }
        let code = endpoint.flow_control_code;
        let limited = |limiter, exceeded| Rejection::RateLimited {
            limiter,
            exceeded,
            code,
        };
        let is_dry_run = self.snapshot.limits.dry_run;
        let ceiling = self.charge_ceiling(account);
        self.unless_dry_run(
            is_dry_run,
            ceiling.map_err(|(limiter, exceeded)| limited(limiter, Some(exceeded))),
        )?;
        let slots = self.acquire_account_slot(account);
        self.unless_dry_run(is_dry_run, slots.map_err(|limiter| limited(limiter, None)))?;
        self.count_admitted(account);
        Ok(())
    }

    /// Charges the ceilings of caller and account, or neither.
    fn charge_ceiling(&self, account: &Account) -> Result<(), (Limiter, RateLimited)> {
        let metrics = self.record.metrics();
        let caller = self.caller.as_ref();
        if let Some(Err(exceeded)) = caller.map(|caller| caller.charge_ceiling()) {
            return Err((Limiter::CallerCeiling, exceeded));
        }
        if let Err(exceeded) = account.charge_ceiling() {
            if let Some(caller) = caller {
                caller.refund_ceiling();
            }
            return Err((Limiter::Ceiling, exceeded));
        }
        metrics.count(Decision::CeilingAllowed);
        if caller.is_some() {
            metrics.count(Decision::CallerCeilingAllowed);
        }
        Ok(())
    }

    /// Takes a place in flight of caller and account.
    fn acquire_account_slot(&mut self, account: &Account) -> Result<(), Limiter> {
        if let Some(caller) = &self.caller {
            let slot = caller.acquire_slot(account);
            self.guards.caller = Some(Arc::new(slot.ok_or(Limiter::CallerInFlight)?));
        }
        let Some(slot) = account.in_flight.try_acquire() else {
            self.guards.caller = None;
            return Err(Limiter::InFlight);
        };
        self.guards.account = Some(InFlightPermit::Owned(slot));
        self.record.metrics().count(Decision::InFlightAllowed);
        if self.caller.is_some() {
            self.record.metrics().count(Decision::CallerInFlightAllowed);
        }
        Ok(())
    }

    /// Returns whom a request that reaches a node is charged to.
    pub(in crate::gateway) fn payer(&self, account: &Arc<Account>) -> Payer {
        Payer {
            account: account.clone(),
            caller: self.caller.clone(),
        }
    }

    /// Turns the refusal of a limit into a count and a field of the log, where the limit is on trial.
    pub(in crate::gateway) fn unless_dry_run(
        &mut self,
        is_dry_run: bool,
        charged: Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        match charged {
            Err(Rejection::RateLimited { limiter, .. }) if is_dry_run => {
                self.would_refuse(limiter);
                Ok(())
            }
            charged => charged,
        }
    }

    /// Counts and records that a limit on trial would have refused the request.
    pub(in crate::gateway) fn would_refuse(&mut self, limiter: Limiter) {
        self.record.metrics().count(Decision::would_refuse(limiter));
        self.record.would_refuse.get_or_insert(limiter.key());
    }
}
