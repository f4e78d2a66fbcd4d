//! Routing: the policies of a listener, and the cluster and interface of a request.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};

use super::caller::ListenerCallers;
use super::playback::PlaybackPolicy;
use super::rejection::Rejection;
use super::snapshot::Snapshot;
use crate::auth::{self, AuthError};
use crate::ccfs::{self, Endpoint, Lookup};
use crate::cluster::Cluster;
use crate::config::{Authentication, UnknownClients, UnknownPaths, Validation};
use crate::limit::InFlight;
use crate::metrics::RouteLabel;

/// The policies and routes of a listener.
#[derive(Clone, Debug)]
pub struct ListenerPolicy {
    /// What happens to requests whose Authorization does not verify.
    pub authentication: Authentication,
    /// Whether shadow authentication also forwards paths that are no CC-FS interface.
    pub shadows_unlisted: bool,
    /// What happens to requests with an unknown access key or another scheme.
    pub unknown_clients: UnknownClients,
    /// What happens to paths that are no CC-FS interface.
    pub unknown_paths: UnknownPaths,
    /// What happens to invalid bodies.
    pub validation: Validation,
    /// The callers without a secret key that may ask here; `None` if there are none.
    pub callers: Option<Arc<ListenerCallers>>,
    /// How links that play are served; `None` serves none.
    pub playback: Option<PlaybackPolicy>,
    /// The address on which the listener is bound.
    pub bind_ip: IpAddr,
    /// The metric label of requests that match no route.
    pub unrouted_label: RouteLabel,
    /// Longest prefix first.
    pub(super) routes: Vec<Route>,
}

/// One entry of a listener's routing table.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Start of the raw path.
    pub(super) prefix: String,
    pub(super) cluster: Arc<Cluster>,
    /// Shared by all routes to the cluster.
    pub(super) unverified_slots: InFlight,
    pub(super) label: RouteLabel,
}

impl ListenerPolicy {
    /// Whether client certificates may identify callers.
    pub(super) fn has_certificates(&self) -> bool {
        let callers = self.callers.as_ref();
        callers.is_some_and(|callers| callers.identities.is_some())
    }

    /// Finds the cluster and the interface of a request.
    ///
    /// # Errors
    /// No route covers the path, the interface has another method, or the path is no interface where
    /// such paths are rejected.
    pub fn route(&self, head: &Parts) -> Result<RouteMatch<'_>, Rejection> {
        let route = self.longest_prefix(head.uri.path())?;
        Ok(RouteMatch {
            policy: self,
            cluster: &route.cluster,
            unverified_slots: &route.unverified_slots,
            label: route.label,
            endpoint: self.endpoint(&head.method, head.uri.path())?,
            is_link: false,
        })
    }

    /// Finds the route with the longest prefix of a raw path.
    pub(super) fn longest_prefix(&self, path: &str) -> Result<&Route, Rejection> {
        self.routes
            .iter()
            .find(|route| path.starts_with(route.prefix.as_str()))
            .ok_or(Rejection::NotFound("no route covers this path"))
    }

    fn endpoint(&self, method: &Method, path: &str) -> Result<&'static Endpoint, Rejection> {
        match ccfs::find_endpoint(method, path) {
            Lookup::Found(endpoint) => Ok(endpoint),
            Lookup::MethodMismatch(endpoint) => {
                Err(Rejection::MethodNotAllowed(endpoint.method.clone()))
            }
            Lookup::Unlisted(endpoint) => match self.unknown_paths {
                UnknownPaths::Forward => Ok(endpoint),
                UnknownPaths::Reject => Err(Rejection::NotFound("no interface of that path")),
            },
        }
    }
}

/// Where a request goes, and under which policies.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'a> {
    /// The policies of the listener.
    pub policy: &'a ListenerPolicy,
    /// The cluster that serves the path.
    pub cluster: &'a Arc<Cluster>,
    /// In-flight limit shared by all unverified requests to this cluster: a quarter of its
    /// connections, so that anonymous slow readers cannot starve verified callers.
    pub unverified_slots: &'a InFlight,
    /// The metric label of listener and cluster.
    pub label: RouteLabel,
    /// The interface.
    pub endpoint: &'static Endpoint,
    /// Whether the request is a link that plays: the gateway makes the request of the interface.
    pub is_link: bool,
}

impl RouteMatch<'_> {
    /// Whether a request that did not verify holds a credential of any caller, which must reach no node from a
    /// listener on which some caller may ask. Reads the whole head: asked last, of requests that are forwarded else.
    pub fn mentions_credential(&self, head: &Parts) -> bool {
        let callers = self.policy.callers.as_ref();
        callers.is_some_and(|callers| callers.search.is_in(head))
    }

    /// Whether shadow authentication forwards what fails with `error`. A disabled access key stays
    /// rejected, and an unlisted path unless the listener says `unknown_paths = "forward"`.
    pub fn shadows(&self, error: &AuthError) -> bool {
        self.policy.authentication == Authentication::Shadow
            && !self.is_link
            && *error != AuthError::Disabled
            && (self.policy.shadows_unlisted || !self.endpoint.is_unlisted())
    }

    /// Whether a request without a readable claim may still be forwarded unverified; decided after the
    /// body is read.
    pub fn may_forward_unverified(&self, error: &AuthError) -> bool {
        self.policy.unknown_clients == UnknownClients::Forward
            && !self.is_link
            && matches!(error, AuthError::Missing | AuthError::OtherScheme)
    }

    /// Whether a request that did not verify is forwarded. It must be for a listed interface, and its
    /// Authorization must neither name a configured access key nor hold a configured secret in its place:
    /// such a request verifies or is rejected.
    pub fn forwards_unverified(
        &self,
        error: &AuthError,
        headers: &HeaderMap,
        snapshot: &Snapshot,
    ) -> bool {
        let is_unknown_key = *error == AuthError::UnknownKey
            && self.policy.unknown_clients == UnknownClients::Forward;
        let is_known_key = |part: &str| snapshot.account(part).is_some();
        let names_known_key =
            |value: &HeaderValue| auth::mentions_access_key(value.as_bytes(), is_known_key);
        let claimed = || auth::claimed_access_key(headers);
        (self.may_forward_unverified(error) || is_unknown_key)
            && !self.is_link
            && !self.endpoint.is_unlisted()
            && !headers
                .get_all(header::AUTHORIZATION)
                .iter()
                .any(names_known_key)
            && !claimed().is_some_and(|claimed| snapshot.secrets().contains(claimed))
    }
}
