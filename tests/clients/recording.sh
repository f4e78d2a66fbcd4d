#!/bin/sh
# Asks for a recording: sh recording.sh https://HOST:PORT CA.pem AK SK-FILE
#
# Signs (auth-v2), asks for the link of a recording, and plays a file into recording.wav. Needs curl and perl.
set -eu
url=$1 ca=$2 ak=$3 sk_file=$4
type='application/json;charset=UTF-8'

# Prints the value of Authorization for PATH and BODY. The signature covers exactly these bytes, and the Host that curl
# sends. The secret is read by perl, so that it is in no argument that other users can see.
sign() {
    perl -MDigest::SHA=hmac_sha256_hex -MPOSIX=strftime -e '
        my ($ak, $sk_file, $host, $type, $path, $body) = @ARGV;
        sub encode { my $text = shift; $text =~ s/([^A-Za-z0-9._~-])/sprintf "%%%02X", ord $1/ge; $text }
        open my $file, "<", $sk_file or die "$sk_file: $!\n";
        chomp(my $secret = <$file>);
        my $prefix = "auth-v2/$ak/" . strftime("%Y-%m-%dT%H:%M:%SZ", gmtime) . "/content-type;host";
        my $lines = "content-type:" . encode($type) . "\nhost:" . encode($host);
        my $text = join "\n", "POST", $path, "content-type;host", $lines, encode($body);
        print "$prefix/", hmac_sha256_hex($text, hmac_sha256_hex($prefix, $secret))
    ' "$ak" "$sk_file" "${url#https://}" "$type" "$1" "$2"
}

# Sends BODY to INTERFACE and prints the answer.
ask() {
    path=/CCFS/resource/ccfs/$1
    curl --silent --show-error --fail --max-time 10 --cacert "$ca" "$url$path" \
        -H "Authorization: $(sign "$path" "$2")" -H "Content-Type: $type" --data-binary "$2"
}

# Prints a member of an answer that is a text; jq does it better where it is installed.
member() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

answer=$(ask getRecordFileUrlFromObs \
    '{"callId":"1637742300-27","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}')
link=$(printf %s "$answer" | member url)
[ -n "$link" ] || { echo "$answer" >&2; exit 1; }
echo "link ${link%%\?*}" # whoever has the rest can fetch the recording

token=$(ask requestPlayVoice \
    '{"request":{"version":"2.0"},"msgBody":{"fileName":"Y:/record/0/20211124/1637742300.wav"}}' | member token)
curl --silent --show-error --fail --max-time 10 --cacert "$ca" --output recording.wav --get \
    -d t=1 -d version=2.0 --data-urlencode "st=$token" "$url/CCFS/resource/ccfs/playVoice"
echo "played $(wc -c <recording.wav) bytes"
