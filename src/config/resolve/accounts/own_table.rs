//! What stands in the table of an access key itself, whatever its plan and the defaults say.

use aws_lc_rs::digest::{self, SHA256};
use zeroize::Zeroizing;

use crate::auth::Secret;
use crate::config::file;

/// A digest of the table of an access key and its secrets. An order to disable the access key holds until
/// it changes. Not shown in `Debug`: a short secret can be guessed from it.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct TableDigest([u8; 16]);

impl std::fmt::Debug for TableDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TableDigest(..)")
    }
}

impl TableDigest {
    /// Returns the bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Takes the bytes of [`TableDigest::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Computes the digest of a table.
    pub(super) fn of(table: &file::AccessKey, secrets: &[Secret]) -> Self {
        let mut fields = Fields(Zeroizing::new(Vec::with_capacity(MAX_USUAL_SIZE)));
        for secret in secrets {
            secret.digest_into(&mut |bytes| fields.add(bytes));
        }
        for written in [&table.time_zone, &table.plan, &table.name] {
            let text = written.as_ref().map_or("", |it| it.as_str());
            fields.add(text.as_bytes());
        }
        let versionless = table.versionless.as_ref().map(|it| it.value as u64 + 1);
        fields.number(versionless);
        for rate in [&table.rate_limit, &table.ceiling] {
            let rate = rate.as_ref().map(|it| it.value);
            let number = |get: fn(&file::Rate) -> Option<u32>| rate.as_ref().and_then(get);
            fields.number(number(|it| it.per_second).map(u64::from));
            fields.number(number(|it| it.per_minute).map(u64::from));
            fields.number(number(|it| it.per_hour).map(u64::from));
            fields.number(number(|it| it.burst).map(u64::from));
        }
        fields.number(table.in_flight.as_ref().map(|it| it.value as u64));
        fields.number(table.enabled.as_ref().map(|it| u64::from(it.value)));
        for time in [&table.not_before, &table.not_after] {
            fields.number(time.as_ref().map(|it| it.0.as_second().cast_unsigned()));
        }
        let digest = digest::digest(&SHA256, &fields.0);
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

/// Fields with their lengths, so that no two sequences have the same bytes. Wiped when dropped, since
/// they hold secrets; a long table moves once.
struct Fields(Zeroizing<Vec<u8>>);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        self.0
            .extend_from_slice(&(field.len() as u64).to_be_bytes());
        self.0.extend_from_slice(field);
    }

    fn number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => self.add(&number.to_be_bytes()),
            None => self.add(&[]),
        }
    }
}

/// A table with two secrets of 64 bytes, a zone, a plan, a name and two rates.
const MAX_USUAL_SIZE: usize = 512;
