//! Whose requests do not verify: a bounded list of what they claim to be, for people only. Nothing that
//! decides about a request reads it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::detector::AccessKeys;
use super::observation::Observation;
use crate::escape;
use crate::metrics::{AuthResult, CLAIM_LENGTH, Claimant, Unverified};
use crate::words;

/// The claimed access keys of the last 24 hours, the heaviest of them.
#[derive(Debug, Default)]
pub struct Claimed {
    configured: Places,
    others: Places,
}

#[derive(Debug, Default)]
struct Places {
    places: Vec<Place>,
    aged_at: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    access_key: CompactString,
    length: usize,
    /// Requests, of which half are forgotten in each [`HALF_LIFE`]: the heaviest keep their places.
    weight: f64,
    count: u64,
    last: Unverified,
    class: AuthResult,
    at: Instant,
    /// Of `count`, those that shadow authentication forwarded.
    shadowed: u64,
    /// The verified requests of the access key when it last failed.
    verified: u64,
    /// Whether it has verified since, and not failed for a minute.
    is_mended: bool,
    is_secret: bool,
    shows_whole: bool,
    /// The mistake that was found in its signatures.
    found: Option<String>,
}

/// One claimed access key.
#[derive(Clone, Debug)]
pub struct ClaimStatus {
    /// What may be shown of it.
    pub access_key: String,
    /// Its length in characters.
    pub length: usize,
    /// Whether it is configured.
    pub is_configured: bool,
    /// Whether it is a secret key, which is not shown.
    pub is_secret: bool,
    /// The requests that did not verify, since it got its place.
    pub count: u64,
    /// Of these, those that shadow authentication forwarded.
    pub would_be_refused: u64,
    /// Whether it would still be refused once shadow authentication ends: its last request was forwarded
    /// only for that, and it has not verified since.
    pub is_on_trial: bool,
    /// Why the last one did not verify, in the words of the metrics.
    pub class: &'static str,
    /// The mistake in it, where one was found.
    pub mistake: Option<String>,
    /// The address of its client.
    pub address: IpAddr,
    /// Its time.
    pub last_seen: Timestamp,
}

impl Claimed {
    /// Takes the requests that did not verify since the last observation.
    pub(super) fn take(
        &mut self,
        now: &Observation,
        access_keys: &dyn AccessKeys,
        minute: Duration,
    ) {
        for places in [&mut self.configured, &mut self.others] {
            places.age(now.at);
        }
        // It may have been configured since.
        let others = &mut self.others.places;
        others.retain(|place| !access_keys.is_configured(&place.access_key));
        for (claimant, event) in &now.incidents.unverified {
            // Without an access key the class tells what would have to be mended.
            if claimant.access_key.is_empty() && event.shadowed == 0 {
                continue;
            }
            let is_configured =
                claimant.length <= CLAIM_LENGTH && access_keys.is_configured(&claimant.access_key);
            let (places, limit) = if is_configured {
                (&mut self.configured, CONFIGURED_PLACES)
            } else {
                (&mut self.others, OTHER_PLACES)
            };
            let newcomer = || Place {
                access_key: claimant.access_key.clone(),
                length: claimant.length,
                weight: 0.0,
                count: 0,
                last: *event,
                class: claimant.class,
                at: now.at,
                shadowed: 0,
                verified: 0,
                is_mended: false,
                is_secret: !is_configured && access_keys.is_secret(&claimant.access_key),
                shows_whole: false,
                found: None,
            };
            if let Some(place) = places.place_for(claimant, event.count, limit, newcomer) {
                place.shows_whole = is_configured || access_keys.shows_claimed();
                place.weight += as_weight(event.count);
                place.count += event.count;
                place.shadowed += event.shadowed;
                place.verified = access_keys.verified(&place.access_key);
                (place.last, place.class, place.at) = (*event, claimant.class, now.at);
            }
        }
        for place in &mut self.configured.places {
            place.found = access_keys.mistake(&place.access_key);
            let is_over = now.at.saturating_duration_since(place.at) >= minute;
            place.is_mended = is_over && access_keys.verified(&place.access_key) > place.verified;
        }
    }

    /// Returns the places as they are shown at a moment, the heaviest first.
    pub(super) fn statuses(&self, (at, now): (Instant, Timestamp)) -> Vec<ClaimStatus> {
        let mut all: Vec<_> = self.all().collect();
        all.sort_by(|(_, one), (_, other)| other.weight.total_cmp(&one.weight));
        let status = |(is_configured, place): (bool, &Place)| {
            let age = at.saturating_duration_since(place.at);
            place.status(is_configured, now.checked_sub(age).unwrap_or(now))
        };
        all.into_iter().map(status).collect()
    }

    fn all(&self) -> impl Iterator<Item = (bool, &Place)> {
        let configured = self.configured.places.iter().map(|place| (true, place));
        configured.chain(self.others.places.iter().map(|place| (false, place)))
    }
}

impl Places {
    /// Forgets what is old, and lets the weights decay until `now`.
    fn age(&mut self, now: Instant) {
        let elapsed = self
            .aged_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.aged_at = Some(now);
        let kept = 0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.places.retain_mut(|place| {
            place.weight *= kept;
            now.saturating_duration_since(place.at) < FORGOTTEN_AFTER
        });
    }

    /// Returns the place of a claimed access key, or gives it one: a free one, or that of the lightest one if
    /// the newcomer is heavier.
    fn place_for(
        &mut self,
        claimant: &Claimant,
        count: u64,
        limit: usize,
        newcomer: impl FnOnce() -> Place,
    ) -> Option<&mut Place> {
        let known = |place: &Place| {
            place.access_key == claimant.access_key
                && place.length == claimant.length
                && (place.length > 0 || place.class == claimant.class)
        };
        if let Some(index) = self.places.iter().position(known) {
            return self.places.get_mut(index);
        }
        if self.places.len() >= limit {
            let (lightest, place) = self
                .places
                .iter()
                .enumerate()
                .min_by(|(_, one), (_, other)| one.weight.total_cmp(&other.weight))?;
            if place.weight >= as_weight(count) {
                return None;
            }
            self.places.swap_remove(lightest);
        }
        self.places.push(newcomer());
        self.places.last_mut()
    }
}

impl Place {
    fn status(&self, is_configured: bool, last_seen: Timestamp) -> ClaimStatus {
        let shown = escape::escaped(&self.access_key);
        let access_key = match (self.is_secret, self.shows_whole) {
            (true, _) => SECRET.to_owned(),
            (false, true) => shown.into_owned(),
            (false, false) => {
                let begin: String = self.access_key.chars().take(SHOWN).collect();
                let more = if self.length > SHOWN { "…" } else { "" };
                format!("{}{more}", escape::escaped(&begin))
            }
        };
        let mistake = match self.class {
            _ if self.is_secret => Some(SECRET.to_owned()),
            AuthResult::Stale => {
                let signed = format!("signed {}", words::clock_error(self.last.seconds_ahead));
                let of_time = |found: &&String| found.starts_with("timestamp-");
                Some(match self.found.as_ref().filter(of_time) {
                    Some(found) => format!("{found}; {signed}"),
                    None => signed,
                })
            }
            _ => self.found.clone(),
        };
        ClaimStatus {
            access_key,
            length: self.length,
            is_configured,
            is_secret: self.is_secret,
            count: self.count,
            would_be_refused: self.shadowed,
            is_on_trial: self.last.shadowed > 0 && !self.is_mended,
            class: self.class.as_str(),
            mistake,
            address: self.last.address,
            last_seen,
        }
    }
}

impl ClaimStatus {
    /// Returns what is claimed, in words.
    pub(super) fn name(&self) -> String {
        match (self.is_configured, self.is_secret) {
            _ if self.length == 0 => "no access key".to_owned(),
            (_, true) => self.access_key.clone(),
            (true, _) => format!("the configured access key {}", self.access_key),
            (false, _) => format!("the unknown access key {}", self.access_key),
        }
    }

    /// Returns the object in `/status` and in the details of `clients-refused`.
    pub fn to_json(&self) -> Value {
        json!({
            "access_key": self.access_key,
            "length": self.length,
            "configured": self.is_configured,
            "count": self.count,
            "would_be_refused": self.would_be_refused,
            "class": self.class,
            "mistake": self.mistake,
            "address": self.address.to_canonical(),
            "last_seen": format!("{:.3}", self.last_seen),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "weights are compared roughly")]
fn as_weight(count: u64) -> f64 {
    count as f64
}

/// Shown in place of a secret key.
const SECRET: &str = "a secret key where the ak belongs";

/// How many characters of an access key that is not configured are shown.
const SHOWN: usize = 8;

const CONFIGURED_PLACES: usize = 40;
const OTHER_PLACES: usize = 10;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Our choice: what failed often an hour ago gives way to what fails now.
const HALF_LIFE: Duration = Duration::from_secs(600);
