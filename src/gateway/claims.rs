//! Access keys that requests claim and do not prove, as people are shown them.

use super::Snapshot;
use crate::escape;

/// Returns a claimed access key for a person: escaped, at most [`MAX_SHOWN_CHARACTERS`] characters, and
/// never a configured secret. Of one that is not configured it has the first characters and the length,
/// unless claims are logged whole.
pub(super) fn shown(claimed: &str, snapshot: &Snapshot) -> Box<str> {
    if snapshot.secrets().contains(claimed) {
        return SECRET_CLAIMED.into();
    }
    let is_whole = snapshot.log_claimed_ak || snapshot.account(claimed).is_some();
    let most = if is_whole {
        MAX_SHOWN_CHARACTERS
    } else {
        UNCONFIGURED_CHARACTERS
    };
    let escaped = escape::escaped(claimed);
    let Some((end, _)) = escaped.char_indices().nth(most) else {
        return escaped.into();
    };
    let start = escaped.get(..end).unwrap_or_default();
    if is_whole {
        format!("{start}…").into()
    } else {
        format!("{start}… ({} characters)", claimed.chars().count()).into()
    }
}

/// Shown instead of a configured secret.
pub(super) const SECRET_CLAIMED: &str = "a secret key where the ak belongs";

/// Characters of a claimed access key that are shown.
const MAX_SHOWN_CHARACTERS: usize = 64;

/// Characters that are shown of one that is not configured.
const UNCONFIGURED_CHARACTERS: usize = 8;
