# A listener in shadow mode, a client whose access key is not configured and one with a wrong secret.
ccfs-gateway init gateway >/dev/null
sed -i "/^\[listeners.ccfs\]/a authentication = \"shadow\"\nvalidation = \"shadow\"
    s|^\[telemetry\]|&\naccess_log = \"$PWD/access.log\"|" gateway/gateway.toml
nodes
serve gateway/gateway.toml
echo "another secret" >wrong
for ak in 279a08bbd8d949a0 0000000000000000; do
    ccfs-gateway call https://127.0.0.1:28443 --ca gateway/tls/ccfs-ca.pem --ak $ak --sk-file wrong --call-id 1-1 \
        --begin '2021-11-24 16:25:03' --end '2021-11-24 17:25:11' >/dev/null 2>&1 || true
done
until_true grep -q gw.reject_reason access.log
until_true eval 'ccfs-gateway status --json | jq -e ".would_be_refused | length == 2"'
# `doctor` exits with 1 for a warning, and lists the note that the listener only watches.
set +e
run deploy/migration.md "curl -s http://127.0.0.1:9901/status" >out
set -e
has out "279a08bbd8d949a0"
has out "00000000"
has out "shadow-on"
has out "127.0.0.1"
