# The alerting rules with the address of the runbook, as a file and as a PrometheusRule.
cp -r "$ROOT/deploy" deploy
cp deploy/prometheus/alerts.yaml .
run deploy/README.md "sed -i 's|RUNBOOKS/|"
has alerts.yaml "https://wiki.example.org/ccfs-gateway/troubleshooting.md#"
kubectl() {
    [ "$*" = "-n ccfs apply -f -" ] || fail "kubectl $*"
    cat >rule.yaml
}
run deploy/README.md "{ printf 'apiVersion"
/usr/bin/python3 - <<'PYTHON'
import yaml
rule, alerts = yaml.safe_load(open("rule.yaml")), yaml.safe_load(open("alerts.yaml"))
assert rule["kind"] == "PrometheusRule", rule
assert rule["spec"] == alerts and alerts["groups"], "the rule has other groups"
PYTHON
