# Functions for the scripts that run the commands of the pages; $ROOT is the project.

fail() { echo "FAIL: $*" >&2; exit 1; }

# Prints a block of a page: page FILE 'its first words' [FROM TO]…
# Exactly one block must begin so; each FROM in it, which must occur, is replaced by TO.
page() {
    perl -CSDA -Mutf8 -0777 -e '
        my ($name, $first, @pairs) = @ARGV;
        open my $file, "<", "$ENV{ROOT}/$name" or die "$name: $!\n";
        my ($text, @found) = <$file>;
        while ($text =~ /^( *)```\w+\n(.*?)^ *```/gms) {
            my ($indent, $block) = ($1, $2);
            $block =~ s/^$indent//gm;
            push @found, $block if index($block, $first) == 0;
        }
        @found == 1 or die "$name: " . @found . " blocks begin with: $first\n";
        while (my ($from, $to) = splice @pairs, 0, 2) {
            $found[0] =~ s/\Q$from\E/$to/g or die "$name: no $from in the block\n";
        }
        print $found[0]
    ' "$@"
}

# Runs such a block in this shell.
run() {
    local commands
    commands=$(page "$@")
    echo "== $1: $2" >&2
    eval "$commands"
}

# Waits until a command succeeds, for at most a quarter of a minute.
until_true() {
    local tries=0
    until "$@" >/dev/null 2>&1; do
        [ $((tries += 1)) -lt 150 ] || fail "never true: $*"
        sleep 0.1
    done
}

# The file must have a text.
has() { grep -qF -- "$2" "$1" || { cat "$1" >&2; fail "$1 does not have: $2"; }; }

# Starts the gateway with a configuration and waits until it is ready.
serve() {
    ccfs-gateway run "$1" 2>gateway.log &
    gateway=$!
    until_true ccfs-gateway healthcheck
}

# Starts stand-in nodes at the ports that `ccfs-gateway init` names; waits until they listen.
nodes() {
    ccfs-gateway stand-in --bind 127.0.0.1:18443 --bind 127.0.0.1:18444 \
        --ak 279a08bbd8d949a0 --sk-file gateway/secrets/279a08bbd8d949a0 \
        --certificate gateway/tls/node.pem --private-key gateway/tls/node.key >nodes.log &
    until_true grep -q 18444 nodes.log
}

# Asks for a recording as the access key of `ccfs-gateway init`; further arguments come last.
call() {
    ccfs-gateway call https://127.0.0.1:28443 --ca gateway/tls/ccfs-ca.pem --ak 279a08bbd8d949a0 \
        --sk-file gateway/secrets/279a08bbd8d949a0 --call-id 1637742300-27 \
        --begin '2021-11-24 16:25:03' --end '2021-11-24 17:25:11' "$@"
}
