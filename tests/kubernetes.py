"""Checks the manifests and the Helm chart without a cluster; `.ci/run kubernetes` installs what this needs.

Every resource is valid by the schemas of the oldest and of a recent Kubernetes, and the chart with its default
values makes the same as the manifests.
"""

import pathlib
import sys

import helm_python
import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parent.parent / "deploy"
VERSIONS = "1.30", "1.37"
CHART = "ccfs-gateway"


def validated(name, text):
    """Returns the resources of a text by their kinds, all of which must be valid."""
    resources = {it["kind"]: it for it in yaml.safe_load_all(text) if it}
    for kind, resource in resources.items():
        # The schemas of the Prometheus operator are not those of Kubernetes.
        for version in () if kind == "PodMonitor" else VERSIONS:
            kubernetes_validate.validate(resource, version, strict=True)
        print(f"{name}: {kind}")
    return resources


def rendered(values, release=CHART):
    """Returns the resources that the chart makes."""
    report = helm_python.lint(DEPLOY / "helm", values, strict=True, kube_version="v1.30.0")
    messages = [it for it in report["messages"] if it["severity"] > 1]
    assert not report["errors"] and not messages, report
    with helm_python.Chart.load(DEPLOY / "helm") as chart:
        texts = chart.render(values, name=release, namespace="ccfs")
    texts = [text for path, text in sorted(texts.items()) if path.endswith(".yaml")]
    return validated("chart", "\n---\n".join(texts))


def without_labels(node):
    """Returns a copy without what only names and labels a resource, or is a default of the chart."""
    skipped = {"labels", "matchLabels", "annotations", "selector", "imagePullPolicy"}
    if isinstance(node, dict):
        return {key: without_labels(it) for key, it in node.items() if key not in skipped}
    if isinstance(node, list):
        return [without_labels(it) for it in node]
    return node


def main():
    manifests = {}
    for name in "namespace", "deployment", "service", "policy", "monitor":
        path = DEPLOY / "kubernetes" / f"{name}.yaml"
        manifests |= validated(path.name, path.read_text())

    chart = rendered({"podMonitor": {"enabled": True}})
    configuration = chart.pop("ConfigMap")["data"]["gateway.toml"]
    original = (DEPLOY / "kubernetes" / "gateway.toml").read_text().split("\n\n", 1)[1]
    assert configuration.strip() == original.strip(), "values.yaml has another configuration than the manifests"

    manifests.pop("Namespace")
    image = manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    version = yaml.safe_load((DEPLOY / "helm" / "Chart.yaml").read_text())["appVersion"]
    image["image"] = f"ccfs-gateway:{version}"
    assert set(chart) == set(manifests), set(chart) ^ set(manifests)
    for kind, resource in manifests.items():
        expected, made = without_labels(resource), without_labels(chart[kind])
        assert expected == made, f"{kind}:\n{yaml.dump(expected)}\n{yaml.dump(made)}"

    # Every value that adds something, in another release.
    mount = {"name": "more", "mountPath": "/more", "readOnly": True}
    made = rendered(
        {
            "image": {"repository": "registry.example.com/ccfs-gateway", "tag": "9.9.9"},
            "imagePullSecrets": [{"name": "pull"}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [mount],
            "extraEnv": [{"name": "A", "value": "b"}],
            "service": {"type": "ClusterIP", "annotations": {"a": "b"}},
            "autoscaling": {"inFlightRequests": None},
            "networkPolicy": {"enabled": False},
            "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"a": "b"},
        },
        release="blue",
    )
    assert "NetworkPolicy" not in made and "PodMonitor" not in made
    pod = made["Deployment"]["spec"]["template"]
    assert made["Deployment"]["metadata"]["name"] == "blue-ccfs-gateway"
    assert pod["spec"]["containers"][0]["image"] == "registry.example.com/ccfs-gateway:9.9.9"
    assert mount in pod["spec"]["containers"][0]["volumeMounts"]
    assert pod["metadata"]["annotations"]["a"] == "b"
    assert "externalTrafficPolicy" not in made["Service"]["spec"]
    assert len(made["HorizontalPodAutoscaler"]["spec"]["metrics"]) == 1

    # A selector must choose the pods of its own release alone.
    for kind, path in {"Service": ["selector"], "PodDisruptionBudget": ["selector", "matchLabels"]}.items():
        node = made[kind]["spec"]
        for key in path:
            node = node[key]
        assert node.items() <= pod["metadata"]["labels"].items() and node["app.kubernetes.io/instance"] == "blue", kind
    print("manifests and chart are well")


if __name__ == "__main__":
    sys.exit(main())
