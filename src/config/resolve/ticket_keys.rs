//! `ticket_key_file` of a listener.

use jiff::Timestamp;

use crate::config::diagnostics::Diagnostics;
use crate::config::file::UpToThree;
use crate::config::permissions::open_to_others;
use crate::config::spanned::Spanned;
use crate::tls::{TICKET_KEY_LENGTH, TicketKey};

/// The keys of a listener.
#[derive(Debug, Default)]
pub(super) struct TicketKeys {
    pub(super) keys: Vec<TicketKey>,
    /// When the file of the first one was written.
    pub(super) since: Option<Timestamp>,
}

/// Reads the keys, if there are any; `None` after an error.
pub(super) fn read(
    files: Option<&Spanned<UpToThree>>,
    diagnostics: &mut Diagnostics,
) -> Option<TicketKeys> {
    let Some(files) = files else {
        return Some(TicketKeys::default());
    };
    let names = files.as_slice();
    if !(1..=MAX_KEYS).contains(&names.len()) {
        diagnostics.error(
            files.span(),
            "not one to three ticket keys",
            "must be a file or a list of up to three: the first one issues tickets",
        );
        return None;
    }
    let mut keys = Vec::new();
    for name in names {
        let key = read_key(name, files, diagnostics)?;
        if keys.contains(&key) {
            diagnostics.error(files.span(), "the same key twice", "must be different keys");
            return None;
        }
        keys.push(key);
    }
    let since = names.first().and_then(|first| {
        let metadata = std::fs::metadata(diagnostics.resolve_path(first)).ok()?;
        Timestamp::try_from(metadata.modified().ok()?).ok()
    });
    Some(TicketKeys { keys, since })
}

fn read_key(
    name: &str,
    files: &Spanned<UpToThree>,
    diagnostics: &mut Diagnostics,
) -> Option<TicketKey> {
    let bytes = diagnostics.read_secret_file(name, &files.span)?;
    let bytes = zeroize::Zeroizing::new(bytes);
    let path = diagnostics.resolve_path(name);
    if let Some(open) = open_to_others(&path) {
        diagnostics.error(
            files.span(),
            format!("{} {open}", path.display()),
            "must be readable and writable by its owner only: chmod 600",
        );
        return None;
    }
    let key = TicketKey::new(&bytes);
    if key.is_none() {
        diagnostics.error(
            files.span(),
            format!("the ticket key has {} bytes", bytes.len()),
            format!("must have {TICKET_KEY_LENGTH}, made at random: `head -c 32 /dev/urandom`"),
        );
    }
    key
}

/// The current key, the one before it, and the next one.
const MAX_KEYS: usize = 3;
