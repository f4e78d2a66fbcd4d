#!/usr/bin/env bash
# Installs the Debian package and uses it as an administrator would, with the commands of the pages:
# tests/package.sh FILE.deb, as root. `.ci/run package` builds and removes it.
set -euo pipefail
ROOT=$(realpath "$(dirname "$0")/..")
export ROOT
. "$ROOT/tests/pages/page.sh"
deb=$(realpath "$1")
cd "$(mktemp -d)"
mkdir -p target/artifacts
cp "$deb" target/artifacts/
as_service() { runuser -u ccfs-gateway -- "$@"; }

# There may be no systemd as process 1: units are enabled, not started.
systemctl() {
    case "$*" in
    "enable --now "*) command systemctl enable "${@:3}" 2>&1 ;;
    "status ccfs-gateway") ;;
    *) fail "systemctl $*" ;;
    esac
}
# The administrator's files and changes: certificates and a secret of a trial, and nodes that are on this machine.
own_files() {
    ccfs-gateway init trial >/dev/null
    cp trial/tls/{gateway,ccfs-ca}.pem trial/tls/gateway.key .
    cp trial/secrets/279a08bbd8d949a0 SECRET
}
edit() { sed -i 's|^nodes = .*|nodes = ["https://127.0.0.1:18443", "https://127.0.0.1:18444"]|' "$1"; }
EDITOR=edit

# Serves as the service does, in a network of its own, and asks for a recording.
serves() {
    cat >serve.sh <<'SERVE'
ip link set lo up
. "$ROOT/tests/pages/page.sh"
ln -sfn trial gateway
nodes
runuser -u ccfs-gateway -- ccfs-gateway run &
until_true ccfs-gateway healthcheck
call >called
has called '"resultCode":"0"'
kill $(jobs -p)
wait
SERVE
    unshare --net --pid --fork --kill-child --mount-proc bash -euo pipefail serve.sh 2>gateway.log || {
        cat gateway.log >&2
        fail "it does not serve"
    }
}

echo "== the package, as deploy/README.md installs it"
ar p "$deb" data.tar.xz | tar -xJO ./usr/bin/ccfs-gateway >ccfs-gateway
chmod 755 ccfs-gateway
PATH=$PWD:$PATH own_files
mv ccfs-gateway new
run deploy/README.md 'dpkg -i target/artifacts'
as_service ccfs-gateway check 2>&1 >/dev/null | tee warnings
! [ -s warnings ] || fail "check warns"
getent passwd ccfs-gateway >/dev/null || fail "no account"
[ "$(stat -c '%U %a' /var/log/ccfs-gateway)" = "ccfs-gateway 750" ] || fail "/var/log/ccfs-gateway"
for unit in service socket; do
    [ "$(command systemctl is-enabled ccfs-gateway.$unit)" = enabled ] || fail "ccfs-gateway.$unit is not enabled"
done
systemd-analyze verify /lib/systemd/system/ccfs-gateway.{service,socket} 2>&1 | tee verify
# systemd before 253 ignores the type, which the drop-in of the package then sets.
! grep ccfs-gateway verify | grep -v "ignoring: notify-reload" || fail "systemd-analyze verify"
logrotate --debug /etc/logrotate.d/ccfs-gateway 2>&1 | tee rotate | grep -qi "error" && { cat rotate; fail "logrotate"; }
man --local-file "$(dpkg -L ccfs-gateway | grep '/ccfs-gateway-call.1.gz$')" | grep -q -- --call-id || fail "manual page"
bash -c 'source /usr/share/bash-completion/completions/ccfs-gateway && complete -p ccfs-gateway' >/dev/null || fail completion
ccfs-gateway --version | grep -q 'features: .*otlp' || fail "the feature otlp"
[ "$(ccfs-gateway --version | sed -n 's/^commit: //p')" != unknown ] || fail "no commit in the version"
as_service ccfs-gateway demo --once
serves

echo "== upgrade and rollback, as deploy/upgrading.md says"
cp new ccfs-gateway
run deploy/upgrading.md './ccfs-gateway check'
rm ccfs-gateway
run deploy/upgrading.md 'dpkg -i ccfs-gateway_NEW.deb' NEW.deb NEW.deb ccfs-gateway_NEW.deb "$deb"
run deploy/upgrading.md 'dpkg -i ccfs-gateway_OLD.deb' ccfs-gateway_OLD.deb "$deb"
grep -q 127.0.0.1:18443 /etc/ccfs-gateway/gateway.toml || fail "an upgrade takes the configuration back"

echo "== removed, and an example without the administrator's files says what it lacks"
command systemctl disable ccfs-gateway.socket ccfs-gateway.service 2>/dev/null
dpkg --remove ccfs-gateway
[ -f /etc/ccfs-gateway/secrets/279a08bbd8d949a0 ] || fail "a removal takes secrets"
dpkg --purge ccfs-gateway
rm -rf /etc/ccfs-gateway /var/log/ccfs-gateway
dpkg -i "$deb"
status=0
as_service ccfs-gateway check >/dev/null 2>check || status=$?
[ "$status" = 78 ] || fail "check without keys and certificates: $status"
! grep -q "var/log" check || { cat check; fail "check finds the directory of the log missing"; }
dpkg --purge ccfs-gateway
rm -rf /etc/ccfs-gateway /var/log/ccfs-gateway
! [ -e /usr/bin/ccfs-gateway ] || fail "the program stays"

echo "== systemd without the package, as deploy/README.md says, on a copy of /usr, /etc and /var that is thrown away"
cp -r "$ROOT/deploy" deploy
install -D new target/dist/ccfs-gateway
by_hand() {
    mkdir layers
    mount -t tmpfs layers layers
    for directory in usr etc var; do
        mkdir -p layers/$directory/{upper,work}
        mount -t overlay overlay -o "lowerdir=/$directory,upperdir=layers/$directory/upper,workdir=layers/$directory/work" \
            /$directory || { echo "not run: no overlay file system here"; return 0; }
    done
    cargo() { [ "$*" = "build --locked --profile dist --features otlp" ] || fail "cargo $*"; }
    run deploy/README.md 'cargo build --locked --profile dist'
    run deploy/README.md 'install -D -m 0644 -t /etc/systemd'
    run deploy/README.md 'dpkg -i target/artifacts' 'dpkg -i target/artifacts/ccfs-gateway_*.deb' ''
    serves
}
export -f by_hand run page fail serves edit systemctl
export EDITOR
unshare --mount bash -euo pipefail -c by_hand
! [ -e /usr/bin/ccfs-gateway ] || fail "the copy was not thrown away"
echo "the package is well"
