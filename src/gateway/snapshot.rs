//! Everything that a reload can change, as one immutable value. A request keeps the snapshot it began
//! with. A reload publishes the next one, which carries over live state: health and counters of nodes,
//! rate limits and in-flight counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;
use jiff::SignedDuration;

use super::account::Account;
use super::caller::{Caller, Callers, ListenerCallers, callers, credential_search};
use super::playback::PlaybackPolicy;
use super::recording::WaitSettings;
use super::rejection::Rejection;
use super::routing::{ListenerPolicy, Route};
use crate::auth::{AccessKey, Secret, SecretSet, TicketMacKeys};
use crate::cache::CachePolicy;
use crate::cluster::{Cluster, ClusterSettings};
use crate::config::{self, AccessKeys, Config, UnknownClients};
use crate::http_fields::ViaPseudonym;
use crate::limit::{ByteBudget, InFlight};
use crate::metrics::RouteLabels;
use crate::sharded_map::ShardedMap;

/// One complete and consistent generation of the configuration.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Starts at 1 and increases with each reload.
    pub generation: u64,
    /// Requests in flight of the whole gateway.
    pub in_flight: InFlight,
    /// Buffered request bodies of the whole gateway, in bytes.
    pub buffered: ByteBudget,
    /// What may be cached, and for how long.
    pub rules: CachePolicy,
    /// How long clients may wait for a recording, and how many.
    pub waits: WaitSettings,
    /// Limits of requests.
    pub limits: config::Limits,
    /// How far a signature's time may be from the clock; `None` is unchecked.
    pub clock_window: Option<SignedDuration>,
    /// The name of this process toward nodes; made with the first generation.
    pub via: ViaPseudonym,
    /// The metric labels of listeners and clusters; only grows.
    pub routes: RouteLabels,
    /// Whether the log names access keys that did not verify (`[telemetry] log_claimed_ak`).
    pub log_claimed_ak: bool,
    /// The keys of tickets of links that play.
    pub ticket_keys: Arc<TicketMacKeys>,
    /// All configured secrets; made when it is first needed.
    secrets: Arc<OnceLock<SecretSet>>,
    listener_policies: HashMap<Arc<str>, ListenerPolicy, RandomState>,
    access_keys: AccessKeys,
    /// Derived from `access_keys`, shard by shard.
    accounts: Accounts,
    callers: Callers,
    clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    unverified_slots: BTreeMap<Arc<str>, InFlight>,
}

impl Snapshot {
    /// Creates the first generation of `config`, or the one after `previous`.
    pub fn next(config: &Config, previous: Option<&Self>) -> Self {
        let clusters = clusters(config, previous);
        let unverified_slots = unverified_slots(&clusters, previous);
        let callers = callers(config, previous.map(|previous| &previous.callers));
        let search = credential_search(&callers);
        let mut labels = previous.map_or_else(RouteLabels::default, |it| it.routes.clone());
        let listener_policies = config.listeners.iter().map(|(name, listener)| {
            let mut policy =
                listener_policy(name, listener, &clusters, &unverified_slots, &mut labels);
            policy.callers = ListenerCallers::of(name, listener, (&callers, &search));
            (name.clone(), policy)
        });
        let listener_policies = listener_policies.collect();
        let limits = config.limits.clone();
        let (in_flight, buffered) = match previous {
            None => (
                InFlight::new(limits.max_in_flight),
                ByteBudget::new(limits.max_buffered),
            ),
            Some(previous) => (
                previous.in_flight.with_limit(limits.max_in_flight),
                previous.buffered.with_limit(limits.max_buffered),
            ),
        };
        let snapshot = Self {
            generation: previous.map_or(1, |snapshot| snapshot.generation + 1),
            in_flight,
            buffered,
            rules: CachePolicy::from(&config.cache),
            waits: WaitSettings {
                max_wait: config.cache.max_wait,
                max_waiters: config.cache.max_waiters,
                max_polls: config.cache.max_polls,
            },
            clock_window: limits
                .clock_window
                .map(|window| SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX)),
            limits,
            via: previous.map_or_else(ViaPseudonym::random, |it| it.via.clone()),
            routes: labels,
            log_claimed_ak: config.telemetry.log_claimed_ak,
            ticket_keys: ticket_keys(config, previous),
            secrets: Arc::default(),
            listener_policies,
            accounts: accounts(&config.access_keys, previous),
            access_keys: config.access_keys.clone(),
            callers,
            clusters,
            unverified_slots,
        };
        snapshot.prepare_secrets();
        snapshot
    }

    /// Makes the set of secrets if requests need it, so that none of them does.
    fn prepare_secrets(&self) {
        let forwards = |policy: &ListenerPolicy| policy.unknown_clients == UnknownClients::Forward;
        if self.log_claimed_ak || self.listener_policies.values().any(forwards) {
            self.secrets();
        }
    }

    /// Returns the set of all configured secrets.
    pub fn secrets(&self) -> &SecretSet {
        self.secrets.get_or_init(|| {
            let secrets = self.accounts.values().flat_map(secrets_of);
            let callers = self.callers.values();
            let callers = callers.flat_map(|caller| caller.settings.secrets());
            SecretSet::new(secrets.chain(callers))
        })
    }

    /// Returns the generation after this one, of which only the access keys differ.
    #[must_use]
    pub fn with_access_keys(&self, access_keys: &AccessKeys) -> Self {
        let next = Self {
            generation: self.generation + 1,
            secrets: Arc::default(),
            accounts: accounts(access_keys, Some(self)),
            access_keys: access_keys.clone(),
            ..self.clone()
        };
        if let Some(secrets) = self.secrets.get() {
            let removed = changed_accounts(&self.accounts, &next.accounts);
            let added = changed_accounts(&next.accounts, &self.accounts);
            let secrets = secrets.changed(removed.flat_map(secrets_of), added.flat_map(secrets_of));
            // It is empty.
            next.secrets.get_or_init(|| secrets);
        }
        next.prepare_secrets();
        next
    }

    /// Keeps the policy of a removed listener as `previous` had it, for connections that are still open
    /// on it. The policy of a configured listener stays as it is.
    pub fn retain_listener_policy(&mut self, listener: &Arc<str>, previous: &Self) {
        if let (false, Some(policy)) = (
            self.listener_policies.contains_key(listener),
            previous.listener_policies.get(listener),
        ) {
            self.listener_policies
                .insert(listener.clone(), policy.clone());
        }
    }

    /// Returns the policy of a listener.
    ///
    /// # Errors
    /// A reload removed the listener while the connection was open.
    pub fn listener_policy(&self, listener: &str) -> Result<&ListenerPolicy, Rejection> {
        self.listener_policies
            .get(listener)
            .ok_or(Rejection::NotFound("this listener is closed"))
    }

    /// Returns the account of an access key.
    pub fn account(&self, access_key: &str) -> Option<&Arc<Account>> {
        self.accounts.get(access_key)
    }

    /// Returns all accounts, in no particular order.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// Returns the number of accounts.
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    /// Returns a caller without a secret key by its name.
    pub fn caller(&self, name: &str) -> Option<&Arc<Caller>> {
        self.callers.get(name)
    }

    /// Returns all callers without a secret key, by name.
    pub fn callers(&self) -> impl ExactSizeIterator<Item = &Arc<Caller>> {
        self.callers.values()
    }

    /// Returns all clusters by name.
    pub fn clusters(&self) -> &BTreeMap<Arc<str>, Arc<Cluster>> {
        &self.clusters
    }
}

type Accounts = ShardedMap<AccessKey, Arc<Account>>;

/// Makes the accounts of all access keys; those that did not change are the same.
fn accounts(access_keys: &AccessKeys, previous: Option<&Snapshot>) -> Accounts {
    let previous = previous.map(|previous| (&previous.access_keys, &previous.accounts));
    access_keys.derive(previous, |_, settings, previous| {
        Account::next(settings, previous)
    })
}

/// Returns the keys of tickets: those that all replicas derive from their seal keys, else random ones of the process.
fn ticket_keys(config: &Config, previous: Option<&Snapshot>) -> Arc<TicketMacKeys> {
    let shared = config.shared.iter().flat_map(|shared| &shared.seal_keys);
    match TicketMacKeys::derived(shared.map(|key| key.expose())) {
        Some(keys) => Arc::new(keys),
        None => previous.map_or_else(
            || Arc::new(TicketMacKeys::random()),
            |previous| previous.ticket_keys.clone(),
        ),
    }
}

/// Returns the accounts of `these` that `others` does not have so.
fn changed_accounts<'a>(
    these: &'a Accounts,
    others: &'a Accounts,
) -> impl Iterator<Item = &'a Arc<Account>> {
    let unshared = these.unshared(others);
    unshared.filter_map(|(access_key, account)| {
        let is_same = |other: &Arc<Account>| Arc::ptr_eq(other, account);
        (!others.get(access_key).is_some_and(is_same)).then_some(account)
    })
}

fn secrets_of(account: &Arc<Account>) -> &[Secret] {
    account.credential.secrets()
}

fn clusters(config: &Config, previous: Option<&Snapshot>) -> BTreeMap<Arc<str>, Arc<Cluster>> {
    let next = |(name, settings): (&Arc<str>, &ClusterSettings)| {
        let previous = previous.and_then(|snapshot| snapshot.clusters.get(name));
        let cluster = match previous {
            Some(previous) => Cluster::from_previous(settings.clone(), previous),
            None => Cluster::new(settings.clone()),
        };
        (name.clone(), cluster)
    };
    let clusters: BTreeMap<_, _> = config.clusters.iter().map(next).collect();
    for cluster in clusters.values() {
        let fallback = cluster.settings().fallback.as_ref();
        if let Some(fallback) = fallback.and_then(|name| clusters.get(name)) {
            cluster.set_fallback(fallback);
        }
    }
    clusters
}

/// Returns the in-flight limit of unverified requests by cluster: a quarter of its connections. Its
/// count is one over all routes and reloads.
fn unverified_slots(
    clusters: &BTreeMap<Arc<str>, Arc<Cluster>>,
    previous: Option<&Snapshot>,
) -> BTreeMap<Arc<str>, InFlight> {
    let slots = |(name, cluster): (&Arc<str>, &Arc<Cluster>)| {
        let settings = cluster.settings();
        let limit = (settings.nodes.len() * settings.pool.max_connections / 4).max(1);
        let previous = previous.and_then(|snapshot| snapshot.unverified_slots.get(name));
        let slots = previous.map_or_else(|| InFlight::new(limit), |it| it.with_limit(limit));
        (name.clone(), slots)
    };
    clusters.iter().map(slots).collect()
}

fn listener_policy(
    name: &str,
    listener: &config::Listener,
    clusters: &BTreeMap<Arc<str>, Arc<Cluster>>,
    unverified_slots: &BTreeMap<Arc<str>, InFlight>,
    labels: &mut RouteLabels,
) -> ListenerPolicy {
    let unrouted_label = labels.label_for(name, "");
    // A configuration names only clusters that it has, so `filter_map` drops nothing.
    let routes = listener.routes.iter().filter_map(|(prefix, cluster)| {
        Some(Route {
            prefix: prefix.clone(),
            label: labels.label_for(name, cluster),
            cluster: clusters.get(cluster)?.clone(),
            unverified_slots: unverified_slots.get(cluster)?.clone(),
        })
    });
    ListenerPolicy {
        authentication: listener.authentication,
        shadows_unlisted: listener.is_forward_written,
        unknown_clients: listener.unknown_clients,
        unknown_paths: listener.unknown_paths,
        validation: listener.validation,
        callers: None,
        playback: listener.playback.map(|life| PlaybackPolicy {
            ticket_life: SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX),
        }),
        bind_ip: listener.bind.ip(),
        unrouted_label,
        routes: routes.collect(),
    }
}

#[cfg(test)]
mod tests;
