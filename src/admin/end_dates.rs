//! What has a known end: certificates, revocation lists, access keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::certificates;
use crate::auth::AccessKey;
use crate::config::{AccountSettings, Config};
use crate::findings::{ClusterFacts, EndDate, EndKind};

/// The end dates of the configuration that was last looked at.
#[derive(Debug, Default)]
pub(super) struct EndDates {
    known: Option<Arc<Config>>,
    certificates: Vec<EndDate>,
    access_keys: BTreeSet<(Timestamp, AccessKey)>,
}

impl EndDates {
    /// Returns the end dates of a configuration and of the certificates that nodes presented, as far as they
    /// matter at `now`. After a change of access keys only those that differ are looked at.
    pub(super) fn at(
        &mut self,
        config: &Arc<Config>,
        clusters: &[ClusterFacts],
        now: Timestamp,
    ) -> Vec<EndDate> {
        if !self
            .known
            .as_ref()
            .is_some_and(|it| Arc::ptr_eq(it, config))
        {
            self.certificates = of_listeners(config);
            self.update_access_keys(config);
            self.known = Some(config.clone());
        }
        let from = now.checked_sub(RELEVANT).unwrap_or(Timestamp::MIN);
        let until = now.checked_add(RELEVANT).unwrap_or(Timestamp::MAX);
        let relevant = self
            .access_keys
            .range((from, AccessKey::from(""))..(until, AccessKey::from("")));
        let access_keys = relevant
            .take(MAX_ACCESS_KEYS)
            .map(|(at, access_key)| EndDate {
                kind: EndKind::AccessKey,
                owner: access_key.shared(),
                name: String::new(),
                at: *at,
            });
        let mut dates = self.certificates.clone();
        dates.extend(access_keys);
        dates.extend(of_nodes(clusters));
        dates
    }

    fn update_access_keys(&mut self, config: &Config) {
        let end = |(access_key, account): (&AccessKey, &Arc<AccountSettings>)| {
            Some((account.validity.not_after?, access_key.clone()))
        };
        let Some(before) = &self.known else {
            self.access_keys = config.access_keys.iter().filter_map(end).collect();
            return;
        };
        let (old, new) = (&before.access_keys, &config.access_keys);
        for gone in old.unshared(new).filter_map(end) {
            self.access_keys.remove(&gone);
        }
        self.access_keys.extend(new.unshared(old).filter_map(end));
    }
}

/// Returns the ends of the listeners' certificates and revocation lists.
fn of_listeners(config: &Config) -> Vec<EndDate> {
    let certificates = certificates::all(config).filter_map(|certificate| {
        Some(EndDate {
            kind: EndKind::ListenerCertificate,
            owner: certificate.listener.into(),
            name: certificate.names.first().cloned().unwrap_or_default(),
            at: certificate.validity?.not_after,
        })
    });
    let crls = certificates::crl_expiries(config).filter_map(|(labels, at)| {
        let (_, listener) = labels.first()?;
        Some(EndDate {
            kind: EndKind::Crl,
            owner: listener.as_str().into(),
            name: String::new(),
            at: Timestamp::from_second(at).ok()?,
        })
    });
    certificates.chain(crls).collect()
}

/// Returns the ends of the certificates that the nodes presented.
fn of_nodes(clusters: &[ClusterFacts]) -> impl Iterator<Item = EndDate> {
    let nodes = clusters
        .iter()
        .flat_map(|cluster| cluster.nodes.iter().map(move |node| (&cluster.name, node)));
    nodes.filter_map(|(cluster, node)| {
        let certificate = node.certificate.as_ref()?;
        Some(EndDate {
            kind: EndKind::NodeCertificate,
            owner: format!("{cluster}/{}", node.address).into(),
            name: certificate.names.first().cloned().unwrap_or_default(),
            at: certificate.validity?.not_after,
        })
    })
}

/// An access key is a finding 14 days ahead, and for as long after its end.
const RELEVANT: SignedDuration = SignedDuration::from_hours(14 * 24);

/// There are at most 100 findings.
const MAX_ACCESS_KEYS: usize = 100;
