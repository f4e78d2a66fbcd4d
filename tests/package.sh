#!/usr/bin/env bash
# Installs the Debian package and uses it as an administrator would: tests/package.sh FILE.deb, as root.
# `.ci/run package` builds and removes it.
set -euo pipefail
deb=$(realpath "$1")
cd "$(mktemp -d)"
fail() { echo "FAIL: $*" >&2; exit 1; }
as_service() { runuser -u ccfs-gateway -- "$@"; }

dpkg -i "$deb"
getent passwd ccfs-gateway >/dev/null || fail "no account"
[ "$(stat -c '%U %a' /var/log/ccfs-gateway)" = "ccfs-gateway 750" ] || fail "/var/log/ccfs-gateway"
systemd-analyze verify /lib/systemd/system/ccfs-gateway.{service,socket} 2>&1 | tee verify
# systemd before 253 ignores the type, which the drop-in of the package then sets.
! grep ccfs-gateway verify | grep -v "ignoring: notify-reload" || fail "systemd-analyze verify"
logrotate --debug /etc/logrotate.d/ccfs-gateway 2>&1 | tee rotate | grep -qi "error" && { cat rotate; fail "logrotate"; }
man --local-file "$(dpkg -L ccfs-gateway | grep '/ccfs-gateway-call.1.gz$')" | grep -q -- --call-id || fail "manual page"
bash -c 'source /usr/share/bash-completion/completions/ccfs-gateway && complete -p ccfs-gateway' >/dev/null || fail completion
ccfs-gateway --version | grep -q 'features: .*otlp' || fail "the feature otlp"

# The shipped configuration lacks only the administrator's own files, and says which.
status=0
as_service ccfs-gateway check >/dev/null 2>check || status=$?
[ "$status" = 78 ] || fail "check without keys and certificates: $status"
! grep -q "var/log" check || { cat check; fail "check finds the directory of the log missing"; }

ccfs-gateway init trial >/dev/null
install -m 0644 trial/tls/{gateway,ccfs-ca}.pem /etc/ccfs-gateway/tls/
install -m 0400 -o ccfs-gateway trial/tls/gateway.key /etc/ccfs-gateway/secrets/
install -m 0400 -o ccfs-gateway trial/secrets/279a08bbd8d949a0 /etc/ccfs-gateway/secrets/
as_service ccfs-gateway check
as_service ccfs-gateway check 2>&1 >/dev/null | tee warnings
! [ -s warnings ] || fail "check warns"

# It serves, with the configuration that `init` wrote, as the account of the service.
as_service ccfs-gateway demo --once
echo "the package is well"
