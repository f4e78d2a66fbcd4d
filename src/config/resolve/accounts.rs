//! Access keys: secrets, time zones and rate limits. The accounts of one file depend on that file, the
//! files that it names, and [`AccountRules`].

mod own_table;
mod secret;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::settings::rate;
use super::zone_names::zone_help;
use crate::auth::{AccessKey, Credential};
use crate::ccfs::{Tenant, Versionless, parse_zone};
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName};
use crate::config::limit_origins::{LimitOrigins, first_written};
use crate::config::spanned::Spanned;
use crate::config::suggestion::suggest;
use crate::config::units::ConfigTime;
use crate::config::{AccountSettings, AccountSource, Period, Plan, Rate, Validity};
use crate::escape;

pub use own_table::TableDigest;
use secret::{read_secrets, redact_unless_names};

/// What applies to all access keys: the defaults. Two that are equal make equal accounts of equal files.
#[derive(Debug, PartialEq)]
pub(in crate::config) struct AccountRules {
    defaults: AccountOptions,
    /// Whether there is a default zone, valid or not.
    has_default_zone: bool,
    plans: BTreeMap<Arc<str>, Plan>,
}

/// The settings of an account other than its secrets.
#[derive(Clone, Debug, Default, PartialEq)]
struct AccountOptions {
    zone: Option<TimeZone>,
    versionless: Option<Versionless>,
    rate_limit: Option<Rate>,
    ceiling: Option<Rate>,
    in_flight: Option<usize>,
    enabled: Option<bool>,
    plan: Option<Arc<str>>,
    validity: Validity,
}

impl AccountRules {
    /// Reads `[plans]` and `[access_key_defaults]`.
    pub(super) fn new(
        plans: &ByName<file::Plan>,
        defaults: &file::AccessKey,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        redact_unless_names(defaults, diagnostics);
        for written in [
            &defaults.secret_key_file,
            &defaults.secret_key_env,
            &defaults.secret_key,
        ]
        .into_iter()
        .flatten()
        {
            diagnostics.error(
                written.span(),
                "a secret cannot be a default",
                "belongs to one [access_keys.AK]: it would be the same for all",
            );
        }
        if let Some(name) = &defaults.name {
            diagnostics.error(
                name.span(),
                "a name cannot be a default",
                "belongs to one [access_keys.AK]",
            );
        }
        let plans = plans.iter().map(|(name, table)| {
            let mut rate = |key: &str, written: &Option<Spanned<file::Rate>>| {
                let key = || format!("plans.{}.{key}", name.value);
                rate(key, written.as_ref(), diagnostics)
            };
            let plan = Plan {
                rate_limit: rate("rate_limit", &table.rate_limit),
                ceiling: rate("ceiling", &table.ceiling),
                in_flight: table.in_flight.as_ref().map(|key| key.value),
            };
            (Arc::from(name.as_str()), plan)
        });
        let rules = Self {
            defaults: AccountOptions::default(),
            has_default_zone: defaults.time_zone.is_some(),
            plans: plans.collect(),
        };
        let mut reader = AccountReader::new(&rules, AccountSource::MAIN);
        let defaults = reader.options(&|| "access_key_defaults".to_owned(), defaults, diagnostics);
        Self { defaults, ..rules }
    }

    /// Returns the plans by name.
    pub(super) fn plans(&self) -> &BTreeMap<Arc<str>, Plan> {
        &self.plans
    }
}

/// Makes accounts of the tables of one file.
pub(in crate::config) struct AccountReader<'a> {
    rules: &'a AccountRules,
    source: AccountSource,
    /// Time zones by name; each is parsed once, since thousands of accounts share a few.
    zones: HashMap<String, Option<TimeZone>>,
}

impl<'a> AccountReader<'a> {
    /// Starts to read a file.
    pub(in crate::config) fn new(rules: &'a AccountRules, source: AccountSource) -> Self {
        Self {
            rules,
            source,
            zones: HashMap::new(),
        }
    }

    /// Returns the valid accounts of `tables`, in their order. `secret_key` is an error unless
    /// `secret_file`.
    pub(in crate::config) fn read(
        &mut self,
        tables: &ByName<file::AccessKey>,
        secret_file: bool,
        diagnostics: &mut Diagnostics,
    ) -> Vec<Arc<AccountSettings>> {
        let mut accounts = Vec::with_capacity(tables.len());
        for (name, table) in tables {
            let access_key = AccessKey::from(name.as_str());
            diagnostics.access_key = Some(access_key.shared());
            accounts.extend(self.account((name, access_key), table, secret_file, diagnostics));
        }
        diagnostics.access_key = None;
        accounts
    }

    fn account(
        &mut self,
        (name, access_key): (&Spanned<String>, AccessKey),
        table: &file::AccessKey,
        secret_file: bool,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<AccountSettings>> {
        check_access_key_name(name, diagnostics);
        let key = || format!("access_keys.{}", name.value);
        let given = self.options(&key, table, diagnostics);
        let secrets = read_secrets(name, table, secret_file, diagnostics);
        if table.time_zone.is_none() && !self.rules.has_default_zone {
            diagnostics.missing_key(
                &format!("{}.time_zone", key()),
                name.span(),
                "time_zone is missing",
                "needs time_zone, such as \"Asia/Shanghai\" or \"GMT+8\": a wrong zone fails silently, so there is no default",
            );
        }
        let secrets = secrets?;
        let own_table = TableDigest::of(table, &secrets);
        let defaults = &self.rules.defaults;
        let plan_name = given.plan.or_else(|| defaults.plan.clone());
        let plan = plan_name
            .as_ref()
            .and_then(|name| self.rules.plans.get(name));
        let plan = plan.copied().unwrap_or_default();
        let (rate_limit, rate_origin) =
            first_written(given.rate_limit, plan.rate_limit, defaults.rate_limit);
        let (ceiling, ceiling_origin) =
            first_written(given.ceiling, plan.ceiling, defaults.ceiling);
        let (in_flight, in_flight_origin) =
            first_written(given.in_flight, plan.in_flight, defaults.in_flight);
        let enabled = given.enabled.or(defaults.enabled).unwrap_or(true);
        Some(Arc::new(AccountSettings {
            credential: Arc::new(Credential::new(access_key, secrets, enabled)),
            tenant: Tenant {
                zone: given.zone.or_else(|| defaults.zone.clone())?,
                versionless: given.versionless.or(defaults.versionless),
            },
            rate_limit,
            ceiling: ceiling.or(rate_limit.map(default_ceiling)),
            in_flight: in_flight.unwrap_or(DEFAULT_IN_FLIGHT),
            origins: LimitOrigins {
                rate_limit: rate_origin,
                ceiling: ceiling_origin,
                in_flight: in_flight_origin,
            },
            plan: plan_name,
            name: table
                .name
                .as_ref()
                .and_then(|name| read_name(name, diagnostics)),
            validity: Validity {
                not_before: given.validity.not_before.or(defaults.validity.not_before),
                not_after: given.validity.not_after.or(defaults.validity.not_after),
            },
            own_table,
            source: self.source,
        }))
    }

    /// Returns the settings of the table at `key`, which is only needed for a mistake.
    fn options(
        &mut self,
        key: &dyn Fn() -> String,
        table: &file::AccessKey,
        diagnostics: &mut Diagnostics,
    ) -> AccountOptions {
        let zone = table.time_zone.as_ref();
        let zone = zone.and_then(|written| self.lookup_zone(written, diagnostics));
        let versionless = table.versionless.as_ref().map(|key| match key.value {
            file::Versionless::Local => Versionless::Local,
            file::Versionless::Reject => Versionless::Reject,
            file::Versionless::Utc => Versionless::Utc,
        });
        let plan = table.plan.as_ref();
        let plan = plan.and_then(|written| self.lookup_plan(written, diagnostics));
        let validity = validity(&table.not_before, &table.not_after, diagnostics);
        let mut rate = |name: &str, written: &Option<Spanned<file::Rate>>| {
            let key = || format!("{}.{name}", key());
            rate(key, written.as_ref(), diagnostics)
        };
        AccountOptions {
            zone,
            versionless,
            rate_limit: rate("rate_limit", &table.rate_limit),
            ceiling: rate("ceiling", &table.ceiling),
            in_flight: table.in_flight.as_ref().map(|key| key.value),
            enabled: table.enabled.as_ref().map(|key| key.value),
            plan,
            validity,
        }
    }

    /// Looks up a plan.
    fn lookup_plan(
        &self,
        written: &Spanned<String>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<str>> {
        let found = self.rules.plans.get_key_value(written.as_str());
        if found.is_none() {
            let names = || self.rules.plans.keys().map(AsRef::as_ref);
            let help = match suggest(written, names()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => "must be one of [plans.NAME]".to_owned(),
            };
            diagnostics.error(written.span(), "unknown plan", help);
        }
        found.map(|(name, _)| name.clone())
    }

    /// Looks up a time zone. Each distinct name is parsed once, since thousands of accounts share a few.
    fn lookup_zone(
        &mut self,
        written: &Spanned<String>,
        diagnostics: &mut Diagnostics,
    ) -> Option<TimeZone> {
        if !self.zones.contains_key(written.as_str()) {
            let zone = parse_zone(written);
            if zone.is_some() {
                warn_if_sign_reversed(written, diagnostics);
            }
            self.zones.insert(written.value.clone(), zone);
        }
        let zone = self.zones.get(written.as_str()).cloned().flatten();
        if zone.is_none() {
            diagnostics.error(written.span(), "unknown time zone", zone_help(written));
        }
        zone
    }
}

/// Warns of `Etc/GMT+8`: the sign of these zones is inverted (POSIX), so that it is UTC-8.
fn warn_if_sign_reversed(zone: &Spanned<String>, diagnostics: &mut Diagnostics) {
    let reversed = zone
        .split_at_checked("Etc/".len())
        .filter(|(area, _)| area.eq_ignore_ascii_case("Etc/"))
        .and_then(|(_, name)| name.split_once('+'))
        .filter(|(name, hours)| name.eq_ignore_ascii_case("GMT") && *hours != "0");
    if let Some((_, hours)) = reversed {
        diagnostics.warning(
            zone.span(),
            format!("{} is UTC-{hours}, west of Greenwich", zone.value),
            format!("did you mean \"GMT+{hours}\"?"),
        );
    }
}

/// Reads the dates of an access key or a caller.
pub(super) fn validity(
    not_before: &file::Setting<ConfigTime>,
    not_after: &file::Setting<ConfigTime>,
    diagnostics: &mut Diagnostics,
) -> Validity {
    let validity = Validity {
        not_before: not_before.as_ref().map(|key| key.0),
        not_after: not_after.as_ref().map(|key| key.0),
    };
    if let (Some(start), Some(end), Some(written)) =
        (validity.not_before, validity.not_after, not_after)
        && end <= start
    {
        diagnostics.error(
            written.span(),
            "not_after is not after not_before",
            "must be later than not_before",
        );
    }
    validity
}

/// Checks a name for people.
fn read_name(written: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<Arc<str>> {
    let length = written.chars().count();
    if (1..=MAX_NAME_LENGTH).contains(&length) && !written.contains(escape::is_unsafe) {
        return Some(written.as_str().into());
    }
    diagnostics.error(
        written.span(),
        "not a name",
        "must be 1 to 128 characters without control characters",
    );
    None
}

/// Returns the default ceiling on all requests of an account or a caller, cache hits included: 20 × its rate, at
/// least 1000/s. Well-behaved clients never reach it; one account cannot saturate the CPU.
pub(super) fn default_ceiling(rate: Rate) -> Rate {
    let per_second = rate.requests.saturating_mul(20);
    let per_second = per_second.div_ceil(rate.period.seconds()).max(1_000);
    Rate::with_default_burst(per_second, Period::Second)
}

/// Checks the characters of an ak, which is delimited by commas and slashes in the Authorization field.
fn check_access_key_name(name: &Spanned<String>, diagnostics: &mut Diagnostics) {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"/,=\"".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(legal) {
        diagnostics.error(
            name.span(),
            "not an access key",
            "must be 1 to 128 visible ASCII characters without / , = and quotes",
        );
    }
}

/// A request waits for a node for 9 s at most, so that this is 28 requests a second even then.
const DEFAULT_IN_FLIGHT: usize = 256;

/// As long as an access key.
const MAX_NAME_LENGTH: usize = 128;
