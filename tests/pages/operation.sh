# A gateway with an admin token and an audit log, and a client with a wrong secret: what operators run.
ccfs-gateway init gateway >/dev/null
umask 077
openssl rand -hex 32 >admin.token
openssl rand -hex 32 >audit.key
sed -i "s|^\[admin\]|&\ntoken_file = \"$PWD/admin.token\"|; s|^\[telemetry\]|&\naccess_log = \"off\"|
    s|^\[telemetry\]|&\naudit_log = \"$PWD/audit.log\"\naudit_key_file = \"$PWD/audit.key\"|" gateway/gateway.toml
export CCFS_GATEWAY_ADMIN_TOKEN
CCFS_GATEWAY_ADMIN_TOKEN=$(cat admin.token)
nodes
serve gateway/gateway.toml
call >/dev/null 2>&1

# The last --sk-file of a command would be refused, so the wrong secret has an access key that it belongs to.
ak=279a08bbd8d949a0
echo "another secret" >wrong
! ccfs-gateway call https://127.0.0.1:28443 --ca gateway/tls/ccfs-ca.pem --ak $ak --sk-file wrong --call-id 1-1 \
    --begin '2021-11-24 16:25:03' --end '2021-11-24 17:25:11' >/dev/null 2>&1 || fail "a wrong secret is accepted"
until_true ccfs-gateway explain --live $ak
run deploy/operations.md "ccfs-gateway explain --live" >explained
has explained "getRecordFileUrlFromObs"

# `top` needs a terminal, and `tail` does not end by itself.
ccfs-gateway() {
    case $1 in
    top) printf q | script -qec 'stty rows 24 cols 80; exec ccfs-gateway top' /dev/null >top.out ;;
    tail)
        command ccfs-gateway "$@" >tail.out &
        until_true eval 'call >/dev/null 2>&1; grep -q "\"gw.ak\":\"$ak\"" tail.out'
        kill $!
        ;;
    *) command ccfs-gateway "$@" ;;
    esac
}
authorization=$(command ccfs-gateway sign --ak $ak --sk-file wrong --path /a --header 'host: b')
explained="--authorization $authorization --path /a --header 'host: b'"
run deploy/troubleshooting.md 'ccfs-gateway doctor' AK $ak … "$explained" >english
mv top.out english.top
run deploy/troubleshooting.zh-CN.md 'ccfs-gateway doctor' AK $ak … "$explained" >chinese
for out in english chinese; do
    has $out "nothing is wrong"
    has $out "127.0.0.1:18443"
    has $out "auth-v2"
done
has english.top "q quit"
has top.out "q quit"
unset -f ccfs-gateway

# A rotated audit log, of which the head was noted.
mv audit.log audit.log.1
kill -USR1 "$gateway"
until_true test -f audit.log
ccfs-gateway purge --all >/dev/null
until_true grep -q '"order":"purge"' audit.log
head=$(ccfs-gateway status --json | jq -r '.audit | "\(.seq):\(.hash)"')
run deploy/operations.md 'ccfs-gateway audit verify' '4711:9f86d0…' "$head" >verified
has verified "valid: "
sed -i 's/"order":"purge"/"order":"drain"/' audit.log
! run deploy/operations.md 'ccfs-gateway audit verify' '4711:9f86d0…' "$head" >/dev/null 2>&1 || fail "a forged line is accepted"
