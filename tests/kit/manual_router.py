"""The egress router of 15.12 as the manual prints it, and a small cluster around it."""

from __future__ import annotations

from pathlib import Path

from ovnk_core.cluster import Cluster
from ovnk_core.flows.table import FlowTable
from ovnk_core.ingest.load import load
from ovnk_core.terms.name import NamespacedName
from ovnk_core.trace.question import Answer, parse_question
from ovnk_core.trace.scene import Scene
from ovnk_core.trace.tracer import Tracer

NODE = "ci-ln-9x2bnsk-f76d1-j2v6g-worker-c-24g65"
DEFINITION = """\
apiVersion: "k8s.cni.cncf.io/v1"
kind: NetworkAttachmentDefinition
metadata:
  name: egress-router-redirect
spec:
  config: '{
    "cniVersion": "0.4.0",
    "type": "egress-router",
    "name": "egress-router",
    "ip": {
      "addresses": [
        "192.168.12.99/24"
        ],
      "destinations": [
        "192.168.12.91/32"
        ],
      "gateway": "192.168.12.1"
      }
    }'
"""
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: egress-router-pod
  annotations:
    k8s.v1.cni.cncf.io/networks: egress-router-redirect
spec:
  containers:
    - name: egress-router-pod
      image: registry.redhat.com/openshift3/ose-pod
"""
LABELLED = POD.replace("  annotations:", "  labels: {name: egress-router-pod}\n  annotations:")
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: egress-1
spec:
  ports:
  - name: database
    protocol: TCP
    port: 3306
  type: ClusterIP
  selector:
    name: egress-router-pod
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: egress-1-a, labels: {kubernetes.io/service-name: egress-1}}
addressType: IPv4
ports: [{name: database, port: 3306, protocol: TCP}]
endpoints: [{addresses: [10.129.2.31]}]
"""
"""What the endpoint controller writes once the Service selects the pod."""
AROUND = f"""\
apiVersion: v1
kind: Node
metadata: {{name: {NODE}, annotations: {{k8s.ovn.org/node-subnets: '{{"default":"10.129.2.0/23"}}'}}}}
status: {{addresses: [{{type: InternalIP, address: 192.168.12.5}}]}}
---
apiVersion: v1
kind: Node
metadata: {{name: other}}
status: {{addresses: [{{type: InternalIP, address: 192.168.12.6}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec: {{nodeName: other}}
"""
ROUTER = NamespacedName("default", "egress-router-pod")


def placed(pod: str) -> str:
    """The pod as it runs: on the node and with the address of the manual's events."""
    running = pod.replace("spec:\n", f"spec:\n  nodeName: {NODE}\n")
    return f"{running}status: {{podIP: 10.129.2.31}}\n"


def loaded(tmp_path: Path, *documents: str) -> Cluster:
    path = tmp_path / "objects.yaml"
    path.write_text("---\n".join(documents))
    found, cluster = load([str(path)]), Cluster(check=True)
    assert not found.refused
    cluster.replace(found)
    return cluster


def asked(cluster: Cluster, target: str, source: str = "default/client", protocol: str = "tcp") -> Answer:
    return Tracer(Scene(cluster), lambda: FlowTable(cluster.engine)).ask(
        parse_question(source, target, protocol), "all"
    )
