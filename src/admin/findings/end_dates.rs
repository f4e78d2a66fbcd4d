//! Everything with a known end: certificates, revocation lists, access keys, callers.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::admin::certificates;
use crate::auth::AccessKey;
use crate::config::{AccessKeys, AccountSettings, Config};
use crate::findings::{ClusterFacts, EndDate, EndKind};

/// The end dates of the configuration in force.
#[derive(Debug, Default)]
pub(super) struct EndDates {
    config: Option<Arc<Config>>,
    /// Of certificates and revocation lists of the listeners.
    listeners: Vec<EndDate>,
    callers: Vec<EndDate>,
    access_keys: KeyEnds,
}

impl EndDates {
    /// Returns the end dates that may matter at `now`.
    pub(super) fn at(
        &mut self,
        now: Timestamp,
        config: &Arc<Config>,
        clusters: &[ClusterFacts],
    ) -> Vec<EndDate> {
        let is_known = (self.config.as_ref()).is_some_and(|known| Arc::ptr_eq(known, config));
        if !is_known {
            self.listeners = listeners(config);
            self.callers = callers(config);
            self.access_keys.follow(&config.access_keys);
            self.config = Some(config.clone());
        }
        let mut all = self.listeners.clone();
        all.extend(nodes(clusters));
        all.extend(self.access_keys.near(now));
        let from = now.checked_sub(ENDED_SHOWN).unwrap_or(now);
        let callers = self.callers.iter().filter(|end| end.at >= from);
        all.extend(callers.take(MAX_KEYS).cloned());
        all
    }
}

/// The ends of access keys in their order. A change of one access key costs what changed, however many there
/// are.
#[derive(Debug, Default)]
struct KeyEnds {
    known: AccessKeys,
    ends: BTreeSet<(Timestamp, AccessKey)>,
}

impl KeyEnds {
    /// Takes the access keys of a new configuration.
    fn follow(&mut self, access_keys: &AccessKeys) {
        for end in ends(self.known.unshared(access_keys)) {
            self.ends.remove(&end);
        }
        self.ends.extend(ends(access_keys.unshared(&self.known)));
        self.known = access_keys.clone();
    }

    /// Returns the next ends, and then the last ones.
    fn near(&self, now: Timestamp) -> impl Iterator<Item = EndDate> {
        let bound = |at| (at, AccessKey::from(""));
        let from = now.checked_sub(ENDED_SHOWN).unwrap_or(now);
        let to = now.checked_add(AHEAD).unwrap_or(now);
        let next = self.ends.range(bound(now)..bound(to));
        let last = self.ends.range(bound(from)..bound(now)).rev();
        next.chain(last)
            .take(MAX_KEYS)
            .map(|(at, access_key)| EndDate {
                kind: EndKind::AccessKey,
                owner: access_key.shared(),
                name: String::new(),
                since: None,
                at: *at,
            })
    }
}

/// Returns the ends of the enabled access keys that have one.
fn ends<'a>(
    access_keys: impl Iterator<Item = (&'a AccessKey, &'a Arc<AccountSettings>)>,
) -> impl Iterator<Item = (Timestamp, AccessKey)> {
    access_keys
        .filter(|(_, account)| account.credential.enabled())
        .filter_map(|(access_key, account)| Some((account.validity.not_after?, access_key.clone())))
}

/// Returns the ends of the enabled callers that have one, the next first.
fn callers(config: &Config) -> Vec<EndDate> {
    let callers = config.callers.values().filter(|caller| caller.enabled);
    let ends = callers.filter_map(|caller| {
        Some(EndDate {
            kind: EndKind::Caller,
            owner: caller.name.clone(),
            name: String::new(),
            since: None,
            at: caller.validity.not_after?,
        })
    });
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by_key(|end| end.at);
    ends
}

fn listeners(config: &Config) -> Vec<EndDate> {
    let certificates = certificates::all(config).filter_map(|certificate| {
        let validity = certificate.validity?;
        Some(EndDate {
            kind: EndKind::ListenerCertificate,
            owner: certificate.listener.into(),
            name: certificate.names.first().cloned().unwrap_or_default(),
            since: Some(validity.not_before),
            at: validity.not_after,
        })
    });
    let crls = certificates::crls(config).filter_map(|(listener, crl)| {
        Some(EndDate {
            kind: EndKind::Crl,
            owner: listener.into(),
            name: String::new(),
            since: crl.this_update,
            at: crl.next_update?,
        })
    });
    certificates.chain(crls).collect()
}

/// Returns the ends of the certificates that the nodes presented.
fn nodes(clusters: &[ClusterFacts]) -> impl Iterator<Item = EndDate> {
    let nodes = clusters
        .iter()
        .flat_map(|cluster| cluster.nodes.iter().map(move |node| (&cluster.name, node)));
    nodes.filter_map(|(cluster, node)| {
        let certificate = node.certificate.as_ref()?;
        let validity = certificate.validity?;
        Some(EndDate {
            kind: EndKind::NodeCertificate,
            owner: format!("{cluster}/{}", node.address).into(),
            name: certificate.names.first().cloned().unwrap_or_default(),
            since: Some(validity.not_before),
            at: validity.not_after,
        })
    })
}

/// More than any finding looks ahead.
const AHEAD: SignedDuration = SignedDuration::from_hours(15 * 24);

/// How long an access key that has ended is still called so. Our choice: whoever looks a week later meant it.
const ENDED_SHOWN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Each is a finding of its own, of which 100 are shown. A campaign may end thousands on one day.
const MAX_KEYS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_ends_come_first_and_then_the_last_ones() {
        let mut ends = KeyEnds::default();
        for (name, at) in [
            ("ended", "2026-01-08T00:00:00Z"),
            ("ended-before", "2026-01-07T00:00:00Z"),
            ("long-ago", "2025-12-01T00:00:00Z"),
            ("next", "2026-01-11T00:00:00Z"),
            ("later", "2026-06-01T00:00:00Z"),
        ] {
            ends.ends.insert((at.parse().unwrap(), name.into()));
        }
        let near = |now: &str| -> Vec<_> {
            let near = ends.near(now.parse().unwrap());
            near.map(|end| end.owner.to_string()).collect()
        };
        assert_eq!(
            near("2026-01-10T00:00:00Z"),
            ["next", "ended", "ended-before"]
        );
        assert_eq!(
            near("2026-01-11T00:00:00Z"),
            ["next", "ended", "ended-before"]
        );
        assert_eq!(near("2026-05-30T00:00:00Z"), ["later"]);
        assert!(near("2026-04-01T00:00:00Z").is_empty());
    }
}
