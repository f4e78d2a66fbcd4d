# The commands for Kubernetes without a cluster: what they would create. Runs where kubectl is installed.
cp -r "$ROOT/deploy" deploy
printf 'a secret' >SECRET
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=gateway -keyout gateway.key \
    -out gateway.pem 2>/dev/null
cp gateway.pem ccfs-ca.pem
kubectl() {
    case "$*" in
    "apply -k deploy/kubernetes") command kubectl kustomize deploy/kubernetes ;;
    *) command kubectl "$@" --dry-run=client -o yaml && echo --- ;;
    esac
}
run deploy/README.md 'kubectl create namespace' >created
# Every Secret that the manifests mount is created.
for secret in $(sed -n 's/.*secretName: //p' created); do
    grep -q "^  name: $secret\$" created || fail "no Secret $secret"
done
has created "kind: Deployment"
