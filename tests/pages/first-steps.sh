# From `init` to a recording, with the commands that it prints and the examples for callers.
run README.md 'ccfs-gateway init gateway' >printed
rm -rf gateway
run README.zh-CN.md 'ccfs-gateway init gateway' >printed
rm -rf gateway
run config/README.md 'ccfs-gateway init gateway' >printed

# The commands are the lines that are indented by two blanks, and those that they continue on.
perl -0777 -pe 's/ \\\n +/ /g' printed | sed -n 's/^  //p' >commands
[ "$(wc -l <commands)" = 4 ] || fail "init prints other commands"
eval "$(sed -n 1p commands) >nodes.log &"
until_true grep -q 18444 nodes.log
eval "$(sed -n 2p commands)" >checked
has checked "configuration is valid"
eval "$(sed -n 3p commands) 2>gateway.log &"
until_true ccfs-gateway healthcheck
for expected in "fwd=uri-miss" "hit"; do
    eval "$(sed -n 4p commands)" >called 2>heads
    has called '"resultCode":"0"'
    has heads "$expected"
done

mkdir tests
cp -r "$ROOT/tests/clients" tests/
run tests/clients/README.md 'python3 tests/clients/recording.py' >played
has played "played 65536 bytes"
