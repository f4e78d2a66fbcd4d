//! Links that play: `playback` and `ticket_life` of a listener.

use std::sync::Arc;
use std::time::Duration;

use super::{MINUTE, nonzero_duration_or, value_or};
use crate::config::diagnostics::Diagnostics;
use crate::config::file;

/// Returns how long a ticket opens its link; `None` if the listener serves no links.
pub(super) fn resolve(
    table: &file::Listener,
    routes: &[(String, Arc<str>)],
    diagnostics: &mut Diagnostics,
) -> Option<Duration> {
    let life = nonzero_duration_or(&table.ticket_life, 5 * MINUTE, diagnostics);
    if let Some(written) = &table.ticket_life
        && life > LONGEST
    {
        diagnostics.error(
            written.span(),
            "a ticket that lives too long",
            "must be at most \"1h\": who sees the link can play the recording as long",
        );
    }
    let is_on = value_or(&table.playback, false);
    if let (Some(written), false) = (&table.ticket_life, is_on) {
        diagnostics.warning(
            written.span(),
            "ticket_life has no use without playback",
            "should be left out, or needs playback = true",
        );
    }
    let is_routed = || {
        routes
            .iter()
            .any(|(prefix, _)| INTERFACE.starts_with(prefix))
    };
    if let Some(written) = &table.playback
        && is_on
        && !routes.is_empty()
        && !is_routed()
    {
        diagnostics.error(
            written.span(),
            "playback, and no route for the recording interface",
            "needs a route such as \"/CCFS/\" = \"ccfs\": links ask its cluster",
        );
    }
    is_on.then_some(life)
}

/// The recording interface.
const INTERFACE: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";

/// Long enough to listen to a call.
const LONGEST: Duration = Duration::from_secs(3_600);
