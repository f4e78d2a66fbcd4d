# Callers with a client certificate, with an API key and with a token, and links that play.
ccfs-gateway init gateway >/dev/null
cd gateway
authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"; }
certificate() { # AUTHORITY FILE SUBJECT NAMES
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "$2.key" -out request
    openssl x509 -req -in request -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -days 2 -out "$2.pem" \
        -extfile <(printf 'subjectAltName=%s\n' "$4")
}
{
    authority servers
    authority clients
    certificate servers server /CN=server 'DNS:gateway.example.com,DNS:record-bucket.obs.example.com'
    certificate clients qa /CN=qa.example.com 'DNS:qa.example.com'
} 2>/dev/null
cp server.pem tls/gateway.pem
cp server.key tls/gateway.key
cp clients.pem tls/clients-ca.pem
for secret in qa-tools qa-sdk; do
    openssl rand -hex 32 >secrets/$secret
    chmod 600 secrets/$secret
done

# An identity provider: its keys, and a token that it gives out.
base64url() { basenc --base64url --wrap=0 | tr -d =; }
openssl genrsa -out idp.key 2048 2>/dev/null
modulus=$(openssl rsa -in idp.key -noout -modulus | perl -ne 's/.*=//; chomp; print pack "H*", $_' | base64url)
echo '{"keys":[{"kty":"RSA","kid":"one","alg":"RS256","use":"sig","n":"'"$modulus"'","e":"AQAB"}]}' >tls/idp.jwks
claims='"iss":"https://idp.example.com","aud":"recordings","group":"qa","exp":'$(($(date +%s) + 300))
TOKEN=$(printf '{"alg":"RS256","kid":"one"}' | base64url).$(printf '{%s}' "$claims" | base64url)
TOKEN+=.$(printf %s "$TOKEN" | openssl dgst -sha256 -sign idp.key | base64url)
sed -i '/^\[listeners.ccfs\]/a playback = true
    /^tls = { certificate/d' gateway.toml
page deploy/keyless-callers.md '[callers.qa-tools]' >>gateway.toml
page deploy/keyless-callers.md '[listeners.ccfs.tls]' >>gateway.toml
cd ..
nodes
serve gateway/gateway.toml

# The names of the page lead here.
(cd gateway && python3 - <<'PYTHON') >store.log 2>&1 &
import http.server, ssl
class Store(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"RIFF")
server = http.server.HTTPServer(("127.0.0.1", 443), Store)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
export CURL_HOME=$PWD
cat >.curlrc <<RC
silent
show-error
cacert = gateway/servers.pem
connect-to = "gateway.example.com:28443:127.0.0.1:28443"
connect-to = "record-bucket.obs.example.com:443:127.0.0.1:443"
RC
until_true curl https://record-bucket.obs.example.com/

key=$(cat gateway/secrets/qa-tools)
body='{"callId":"1637742300-27","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}'
window='begin=2021-11-24T16:25:03+08:00&end=2021-11-24T17:25:11+08:00'
run deploy/keyless-callers.md 'curl --cert qa.pem' 'qa.' 'gateway/qa.' >answer
has answer '"resultCode":"0"'
run deploy/keyless-callers.md "curl -H 'X-Api-Key: …' --json" 'X-Api-Key: …' "X-Api-Key: $key" '{…}' "$body" >answer
has answer '"resultCode":"0"'
run deploy/keyless-callers.md 'curl -H "Authorization: Bearer $TOKEN"' '{…}' "$body" >answer
has answer '"resultCode":"0"'
run deploy/keyless-callers.md 'curl -L -o call.wav' 'Bearer …' "Bearer $key"
has call.wav RIFF
run deploy/keyless-callers.md 'curl -X POST' 'X-Api-Key: …' "X-Api-Key: $key" 'begin=…&end=…' "$window" >ticket
curl -L -o call.wav "https://gateway.example.com:28443$(jq -r .url ticket)"
has call.wav RIFF
