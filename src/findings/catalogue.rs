//! All kinds of findings. Each is one entry; the types demand every part of it, and a test demands that its
//! alerting rule and its heading in `deploy/troubleshooting.md` exist.

use super::Case;
use super::conditions::{callers, dates, gateway, nodes, settings};
use super::detector::Situation;

/// One kind of finding.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name in `/status`, metrics, rules and the runbook.
    pub id: &'static str,
    /// When it ends.
    pub end: End,
    /// What to do, unless the case has better advice.
    pub advice: &'static str,
    /// The alerting rule in `deploy/prometheus/alerts.yaml`.
    pub alert: &'static str,
    /// Returns the cases that hold, with severity, subject and cause.
    pub(super) condition: fn(&Situation<'_>) -> Vec<Case>,
}

/// When a finding ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// As soon as it does not hold: files, dates and settings.
    AtOnce,
    /// A minute after its last case.
    AfterHold,
}

impl Entry {
    /// Returns its place in the runbook, as a link relative to the folder `deploy`.
    pub fn runbook(&self) -> String {
        format!("troubleshooting.md#{}", self.id)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.id).finish()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Returns the entry of a kind.
pub fn entry(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id == id)
}

/// All kinds of findings.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        id: "node-refuses-signature",
        end: End::AfterHold,
        advice: "Compare the secret of these access keys in CC-FS with the gateway's: one of the two was changed. If all access keys are refused, set the clocks of node and gateway.",
        alert: "CcfsGatewayNodeRefusesSignature",
        condition: nodes::refuses_signature,
    },
    Entry {
        id: "flow-control",
        end: End::AfterHold,
        advice: "The nodes do their best: lower the rate_limit of the busiest access keys, or ask the owner of CC-FS for a higher threshold.",
        alert: "CcfsGatewayFlowControl",
        condition: nodes::flow_control,
    },
    Entry {
        id: "node-down",
        end: End::AfterHold,
        advice: "Look at the node itself: its process, its network, its certificate. The other nodes serve meanwhile, if there are any.",
        alert: "CcfsGatewayNodeDown",
        condition: nodes::node_down,
    },
    Entry {
        id: "node-failing",
        end: End::AfterHold,
        advice: "Look at the log of the node at this time. If it goes on, drain it: ccfs-gateway nodes --drain CLUSTER/HOST:PORT.",
        alert: "CcfsGatewayNodeFailing",
        condition: nodes::node_failing,
    },
    Entry {
        id: "cluster-down",
        end: End::AfterHold,
        advice: "Callers get 502 or 503. Ask first what all nodes share: the network, a firewall, a certificate that was renewed.",
        alert: "CcfsGatewayClusterDown",
        condition: nodes::cluster_down,
    },
    Entry {
        id: "cluster-drained",
        end: End::AfterHold,
        advice: "Let one serve again: ccfs-gateway nodes --undrain CLUSTER/HOST:PORT.",
        alert: "CcfsGatewayClusterDrained",
        condition: nodes::cluster_drained,
    },
    Entry {
        id: "panic",
        end: End::AfterHold,
        advice: "Either the nodes have failed, or the network to them: compare with the other gateways.",
        alert: "CcfsGatewayPanicMode",
        condition: nodes::panic,
    },
    Entry {
        id: "tier-or-fallback-in-use",
        end: End::AfterHold,
        advice: "Requests are served, but not by the nodes that should: look at the findings about the first tier.",
        alert: "CcfsGatewayTierOrFallback",
        condition: nodes::other_tier,
    },
    Entry {
        id: "node-certificate-ends",
        end: End::AtOnce,
        advice: "Have the node's certificate renewed. If the gateway knows it byte for byte in `ca`, add the new one there before; a pin survives the renewal.",
        alert: "CcfsGatewayNodeCertificateEnds",
        condition: dates::node_certificates,
    },
    Entry {
        id: "listener-certificate-ends",
        end: End::AtOnce,
        advice: "Replace the file; the new certificate is in force within ten seconds, without a restart.",
        alert: "CcfsGatewayCertificateEnds",
        condition: dates::listener_certificates,
    },
    Entry {
        id: "crl-ends",
        end: End::AtOnce,
        advice: "Replace the file; the new list is in force within ten seconds. After its end every client certificate of its authority is refused.",
        alert: "CcfsGatewayCrlEnds",
        condition: dates::crls,
    },
    Entry {
        id: "ticket-key-old",
        end: End::AtOnce,
        advice: "Write a new key (head -c 32 /dev/urandom), distribute it to all gateways as the last file of ticket_key_file, and a minute later make it the first one.",
        alert: "CcfsGatewayTicketKeyOld",
        condition: dates::ticket_keys,
    },
    Entry {
        id: "access-key-ends",
        end: End::AtOnce,
        advice: "If the account or the caller shall go on, move its not_after; if not, tell its owner that its requests will get 401.",
        alert: "CcfsGatewayAccessKeyEnds",
        condition: dates::access_keys,
    },
    Entry {
        id: "clients-refused",
        end: End::AfterHold,
        advice: "Call the owner of the access key that fails most: the details name what was claimed and from which address, and `ccfs-gateway explain --live AK` shows its last signature and the mistake.",
        alert: "CcfsGatewayAuthFailures",
        condition: callers::refused,
    },
    Entry {
        id: "recordings-not-found",
        end: End::AfterHold,
        advice: "Check the time_zone of the access key and what its client sends: UTC without version, or local time with version 2.0. New recordings take minutes to be there.",
        alert: "CcfsGatewayRecordingsNotFound",
        condition: callers::recordings_not_found,
    },
    Entry {
        id: "account-limited",
        end: End::AfterHold,
        advice: "If the account needs more and CC-FS can bear it, raise the key that the cause names; else ask its owner to slow down.",
        alert: "CcfsGatewayAccountLimited",
        condition: callers::limited,
    },
    Entry {
        id: "at-capacity",
        end: End::AfterHold,
        advice: "Raise the key that the cause names if memory allows it, or add a gateway.",
        alert: "CcfsGatewayOverloaded",
        condition: gateway::at_capacity,
    },
    Entry {
        id: "clock-off",
        end: End::AfterHold,
        advice: "Compare the clocks with a time server: `chronyc tracking` or `timedatectl`, first here, then at the node or the client.",
        alert: "CcfsGatewayClockOff",
        condition: callers::clock_off,
    },
    Entry {
        id: "store-away",
        end: End::AfterHold,
        advice: "Repair Redis or the network to it; the gateway reconnects by itself. Until then limits are local and every replica fetches for itself.",
        alert: "CcfsGatewaySharedStoreAway",
        condition: gateway::store_away,
    },
    Entry {
        id: "reload-refused",
        end: End::AtOnce,
        advice: "Run `ccfs-gateway check`, correct the file and reload. A restart would fail on it.",
        alert: "CcfsGatewayReloadFailed",
        condition: gateway::reload_refused,
    },
    Entry {
        id: "file-unreadable",
        end: End::AtOnce,
        advice: "Make the file readable and correct: path, owner and mode. What it held before stays in force.",
        alert: "CcfsGatewayFileUnreadable",
        condition: gateway::file_unreadable,
    },
    Entry {
        id: "restart-needed",
        end: End::AtOnce,
        advice: "Restart the gateway when it suits; with the socket unit of systemd no connection is refused.",
        alert: "CcfsGatewayRestartNeeded",
        condition: gateway::restart_needed,
    },
    Entry {
        id: "log-lines-lost",
        end: End::AfterHold,
        advice: "The disk or the reader behind the log is too slow or full: look at both. Requests do not wait for it.",
        alert: "CcfsGatewayLogLinesDropped",
        condition: gateway::log_lines_lost,
    },
    Entry {
        id: "audit-lines-lost",
        end: End::AfterHold,
        advice: "Make room on the disk of the audit log now: what is lost cannot be written later. The log has a line that says how much is missing.",
        alert: "CcfsGatewayAuditLinesLost",
        condition: gateway::audit_lines_lost,
    },
    Entry {
        id: "descriptors-short",
        end: End::AfterHold,
        advice: "Raise LimitNOFILE, or lower [limits] max_connections.",
        alert: "CcfsGatewayFileDescriptors",
        condition: gateway::descriptors_short,
    },
    Entry {
        id: "defect",
        end: End::AfterHold,
        advice: "It is a defect of the gateway: please report the log message with its location. One connection was closed, all others go on.",
        alert: "CcfsGatewayDefect",
        condition: gateway::defect,
    },
    Entry {
        id: "insecure",
        end: End::AtOnce,
        advice: "Anyone on the network can pose as the node. Give its authority as `ca`, or its key as a pin, and remove insecure_skip_verify.",
        alert: "CcfsGatewayInsecure",
        condition: settings::insecure,
    },
    Entry {
        id: "shadow-on",
        end: End::AtOnce,
        advice: "When nothing is counted any more that should pass, remove the key: its default is \"enforce\".",
        alert: "CcfsGatewayShadowOn",
        condition: settings::shadow,
    },
    Entry {
        id: "dry-run-on",
        end: End::AtOnce,
        advice: "When the counts look right, remove the key: until then nothing protects the nodes from one account.",
        alert: "CcfsGatewayDryRunOn",
        condition: settings::dry_run,
    },
    Entry {
        id: "gateway-unreachable",
        end: End::AfterHold,
        advice: "Is the process running, and is --admin the address of [admin] bind? Look at its log; with systemd: systemctl status ccfs-gateway.",
        alert: "CcfsGatewayAbsent",
        condition: gateway::unreachable,
    },
];
