//! All that can change while the gateway runs, as one immutable value. A request keeps the snapshot
//! it began with; a reload publishes the next one, which carries over what lives: health and
//! counters of nodes, budgets and what is in flight.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use http::request::Parts;
use http::{HeaderValue, Method, header};
use jiff::SignedDuration;

use super::rejection::Rejection;
use crate::auth::{self, AccessKey, AuthError, Credential};
use crate::cache::CachePolicy;
use crate::ccfs::{self, Endpoint, Lookup, Tenant};
use crate::cluster::Cluster;
use crate::config::{self, Config, Rate, UnknownClients, UnknownPaths, Validation};
use crate::limit::{ByteBudget, InFlight, RateLimited, RateLimiter};
use crate::metrics::{RouteLabel, RouteLabels};

/// A complete and consistent generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with each reload, from 1.
    pub generation: u64,
    /// Requests of the whole gateway at once.
    pub in_flight: InFlight,
    /// Buffered request bodies of the whole gateway.
    pub buffered: ByteBudget,
    /// What may be cached.
    pub rules: CachePolicy,
    /// Limits of requests.
    pub limits: config::Limits,
    /// How far a signature's time may be off.
    pub clock_window: Option<SignedDuration>,
    /// What its listeners and clusters are counted under.
    pub routes: RouteLabels,
    listener_policies: HashMap<Arc<str>, ListenerPolicy, RandomState>,
    accounts: HashMap<AccessKey, Arc<Account>, RandomState>,
    clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// What all who did not verify may have in flight, by cluster.
    unverified_slots: BTreeMap<Arc<str>, InFlight>,
}

impl Snapshot {
    /// The first generation of `config`, or the one after `previous`.
    pub fn next(config: &Config, previous: Option<&Self>) -> Self {
        let clusters: BTreeMap<_, _> = config
            .clusters
            .iter()
            .map(|(name, settings)| {
                let before = previous.and_then(|snapshot| snapshot.clusters.get(name));
                let cluster = match before {
                    Some(before) => Cluster::from_previous(settings.clone(), before),
                    None => Cluster::new(settings.clone()),
                };
                (name.clone(), cluster)
            })
            .collect();
        let unverified = unverified_slots(&clusters, previous);
        let accounts = config.access_keys.iter().map(|(access_key, settings)| {
            let before = previous.and_then(|snapshot| snapshot.accounts.get(access_key));
            (
                access_key.clone(),
                Arc::new(Account::next(settings, before.map(AsRef::as_ref))),
            )
        });
        let mut routes = previous.map_or_else(RouteLabels::default, |before| before.routes.clone());
        let fronts = config
            .listeners
            .iter()
            .map(|(name, listener)| {
                let front =
                    ListenerPolicy::new(name, listener, &clusters, &unverified, &mut routes);
                (name.clone(), front)
            })
            .collect();
        let limits = config.limits.clone();
        let caps = (limits.max_in_flight, limits.max_buffered);
        let (in_flight, buffered) = previous.map_or_else(
            || (InFlight::new(caps.0), ByteBudget::new(caps.1)),
            |before| {
                (
                    before.in_flight.with_limit(caps.0),
                    before.buffered.with_limit(caps.1),
                )
            },
        );
        Self {
            generation: previous.map_or(1, |snapshot| snapshot.generation + 1),
            in_flight,
            buffered,
            rules: CachePolicy::from(&config.cache),
            clock_window: limits
                .clock_window
                .map(|window| SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX)),
            limits,
            routes,
            listener_policies: fronts,
            accounts: accounts.collect(),
            clusters,
            unverified_slots: unverified,
        }
    }

    /// Serves a listener that is gone as `previous` did, for those who are still connected to it. A
    /// listener that is there stays as it is.
    pub fn retain_listener_policy(&mut self, listener: &Arc<str>, previous: &Self) {
        if let (false, Some(front)) = (
            self.listener_policies.contains_key(listener),
            previous.listener_policies.get(listener),
        ) {
            self.listener_policies
                .insert(listener.clone(), front.clone());
        }
    }

    /// The policies of a listener.
    ///
    /// # Errors
    /// A reload took the listener away while the connection lived.
    pub fn listener_policy(&self, listener: &str) -> Result<&ListenerPolicy, Rejection> {
        self.listener_policies
            .get(listener)
            .ok_or(Rejection::NotFound("this listener is closed"))
    }

    /// The account of an ak.
    pub fn account(&self, access_key: &str) -> Option<&Arc<Account>> {
        self.accounts.get(access_key)
    }

    /// All accounts.
    pub fn accounts(&self) -> impl ExactSizeIterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// All clusters by name.
    pub fn clusters(&self) -> &BTreeMap<Arc<str>, Arc<Cluster>> {
        &self.clusters
    }
}

/// What a listener does with what comes.
#[derive(Clone, Debug)]
pub struct ListenerPolicy {
    /// Callers with an unknown ak or another scheme.
    pub unknown_clients: UnknownClients,
    /// Paths outside the table.
    pub unknown_paths: UnknownPaths,
    /// Invalid bodies.
    pub validation: Validation,
    /// How requests that go nowhere are counted.
    pub unrouted_label: RouteLabel,
    routes: Vec<(String, Arc<Cluster>, InFlight, RouteLabel)>,
}

impl ListenerPolicy {
    fn new(
        name: &str,
        listener: &config::Listener,
        clusters: &BTreeMap<Arc<str>, Arc<Cluster>>,
        unverified: &BTreeMap<Arc<str>, InFlight>,
        places: &mut RouteLabels,
    ) -> Self {
        let unrouted = places.label_for(name, "");
        // A configuration names only clusters that it has, so nothing is lost in `filter_map`.
        let routes = listener.routes.iter().filter_map(|(prefix, cluster)| {
            let place = places.label_for(name, cluster);
            let (live, share) = clusters.get(cluster).zip(unverified.get(cluster))?;
            Some((prefix.clone(), live.clone(), share.clone(), place))
        });
        Self {
            unknown_clients: listener.unknown_clients,
            unknown_paths: listener.unknown_paths,
            validation: listener.validation,
            unrouted_label: unrouted,
            routes: routes.collect(),
        }
    }

    /// Where a request goes.
    ///
    /// # Errors
    /// No route covers the path, another method is needed, or the path is outside the table where
    /// that is refused.
    pub fn route(&self, head: &Parts) -> Result<RouteMatch<'_>, Rejection> {
        let (cluster, unverified, route) = self.longest_prefix(head.uri.path())?;
        let endpoint = self.endpoint(&head.method, head.uri.path())?;
        Ok(RouteMatch {
            policy: self,
            cluster,
            unverified_slots: unverified,
            label: route,
            endpoint,
        })
    }

    /// The cluster behind a raw path: the longest prefix wins.
    fn longest_prefix(
        &self,
        path: &str,
    ) -> Result<(&Arc<Cluster>, &InFlight, RouteLabel), Rejection> {
        self.routes
            .iter()
            .find(|(prefix, ..)| path.starts_with(prefix.as_str()))
            .map(|(_, cluster, unverified, route)| (cluster, unverified, *route))
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

/// For those who did not verify, a quarter of the connections of each cluster, and one count of it
/// over all routes and reloads.
fn unverified_slots(
    clusters: &BTreeMap<Arc<str>, Arc<Cluster>>,
    previous: Option<&Snapshot>,
) -> BTreeMap<Arc<str>, InFlight> {
    let share = |(name, cluster): (&Arc<str>, &Arc<Cluster>)| {
        let settings = cluster.settings();
        let cap = (settings.nodes.len() * settings.pool.max_connections / 4).max(1);
        let before = previous.and_then(|snapshot| snapshot.unverified_slots.get(name));
        let share = before.map_or_else(|| InFlight::new(cap), |it| it.with_limit(cap));
        (name.clone(), share)
    };
    clusters.iter().map(share).collect()
}

/// Where a request goes, and under which policies.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'a> {
    /// The policies.
    pub policy: &'a ListenerPolicy,
    /// Whose nodes answer.
    pub cluster: &'a Arc<Cluster>,
    /// What all who did not verify may have in flight there: a quarter of its connections, so that
    /// slow readers without a name cannot take it from those who have one.
    pub unverified_slots: &'a InFlight,
    /// How it is counted.
    pub label: RouteLabel,
    /// The interface.
    pub endpoint: &'static Endpoint,
}

/// Strangers: callers with an unknown ak, another scheme, or no Authorization at all.
impl RouteMatch<'_> {
    /// May somebody without a readable claim still turn out to be a forwarded stranger, once the body
    /// is read?
    pub fn may_forward_unverified(&self, error: &AuthError) -> bool {
        self.policy.unknown_clients == UnknownClients::Forward
            && matches!(error, AuthError::Missing | AuthError::OtherScheme)
    }

    /// Is a caller who did not verify forwarded as a stranger? Only on interfaces of the table, and
    /// never with a value that names a configured ak: that one verifies or is refused.
    pub fn forwards_unverified(
        &self,
        error: &AuthError,
        head: &Parts,
        snapshot: &Snapshot,
    ) -> bool {
        let is_unknown = *error == AuthError::UnknownKey
            && self.policy.unknown_clients == UnknownClients::Forward;
        let names_an_account = |value: &HeaderValue| {
            auth::mentions_access_key(value.as_bytes(), |part| snapshot.account(part).is_some())
        };
        (self.may_forward_unverified(error) || is_unknown)
            && !self.endpoint.is_unlisted()
            && !head
                .headers
                .get_all(header::AUTHORIZATION)
                .iter()
                .any(names_an_account)
    }
}

/// A developer account with its budgets.
#[derive(Debug)]
pub struct Account {
    /// The ak and its secrets.
    pub credential: Arc<Credential>,
    /// Zone, and how versionless requests are meant.
    pub tenant: Tenant,
    /// Its requests at once.
    pub in_flight: InFlight,
    admitted: Arc<AtomicU64>,
    rate_limiter: Option<Arc<RateLimiter>>,
    ceiling_limiter: Option<Arc<RateLimiter>>,
}

impl Account {
    fn next(settings: &config::AccountSettings, before: Option<&Self>) -> Self {
        let in_flight = before.map_or_else(
            || InFlight::new(settings.in_flight),
            |before| before.in_flight.with_limit(settings.in_flight),
        );
        Self {
            credential: settings.credential.clone(),
            tenant: settings.tenant.clone(),
            in_flight,
            admitted: before.map_or_else(Arc::default, |before| before.admitted.clone()),
            rate_limiter: carry_over(
                settings.rate_limit,
                before.and_then(|account| account.rate_limiter.as_ref()),
            ),
            ceiling_limiter: carry_over(
                settings.ceiling,
                before.and_then(|account| account.ceiling_limiter.as_ref()),
            ),
        }
    }

    /// Counts a request that was let in.
    pub fn count_admitted(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were let in since the ak is known.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Has it a rate?
    pub fn is_limited(&self) -> bool {
        self.rate_limiter.is_some()
    }

    /// What it may make nodes do; `None` is unlimited.
    pub fn rate(&self) -> Option<Rate> {
        self.rate_limiter.as_ref().map(|budget| budget.rate())
    }

    /// Charges for making a node work.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn charge(&self) -> Result<(), RateLimited> {
        self.rate_limiter
            .as_ref()
            .map_or(Ok(()), |budget| budget.try_acquire())
    }

    /// Charges for being served at all.
    ///
    /// # Errors
    /// The ceiling is reached.
    pub fn charge_ceiling(&self) -> Result<(), RateLimited> {
        self.ceiling_limiter
            .as_ref()
            .map_or(Ok(()), |budget| budget.try_acquire())
    }
}

/// The budget of an unchanged rate lives on: a reload is no free refill.
fn carry_over(rate: Option<Rate>, before: Option<&Arc<RateLimiter>>) -> Option<Arc<RateLimiter>> {
    let rate = rate?;
    let kept = before.filter(|budget| budget.rate() == rate).cloned();
    Some(kept.unwrap_or_else(|| Arc::new(RateLimiter::new(rate))))
}

#[cfg(test)]
mod tests;
