# The example configuration, step by step, and a purge.
cp -r "$ROOT/config" config
rm -rf config/tls config/secrets
run config/README.md 'ccfs-gateway demo --make-files config' >made
run config/README.md 'ccfs-gateway stand-in --bind' >called 2>heads
has called '"resultCode":"0"'
has heads "valid for"
run config/README.md 'body=' >called
has called '"resultCode":"0"'
run deploy/operations.md 'ccfs-gateway purge --call-id' >purged
has purged "1 entry purged"
has purged '"purged": true'
