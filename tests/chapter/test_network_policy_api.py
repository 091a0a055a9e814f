"""networking.k8s.io/v1 NetworkPolicy, sentence by sentence: isolation, selectors, unions and nodes, as truth tables.

Source: the Kubernetes documentation of NetworkPolicy (concept page and API reference); each case is named for what
it says. The cluster is in ``tests.kit.table``.
"""

from __future__ import annotations

import pytest

from tests.kit.table import Case, judge

DEFAULTS = (
    Case(
        "without any policy everything is allowed",
        "",
        """
        shop/web > shop/db:5432 = allow
        lab/client > shop/db icmp = allow
        shop/web > 203.0.113.9:443 = allow
        203.0.113.9 > shop/web:80 = allow
        """,
    ),
    Case(
        "default deny all ingress",
        "deny: {podSelector: {}, policyTypes: [Ingress]}",
        """
        shop/web > shop/db:5432 = drop deny
        lab/client > shop/web icmp = drop deny
        203.0.113.9 > shop/web = drop deny
        shop/web > lab/client = allow            # egress stays open
        lab/client > lab/web = allow             # other namespaces stay open
        shop/web > 203.0.113.9 = allow
        """,
    ),
    Case(
        "allow all ingress",
        "deny: {podSelector: {}, policyTypes: [Ingress]}\n"
        "open: {podSelector: {}, ingress: [{}], policyTypes: [Ingress]}",
        """
        lab/client > shop/db:1 = allow open[0]
        lab/client > shop/db icmp = allow open[0]
        203.0.113.9 > shop/web:80 udp = allow open[0]
        """,
    ),
    Case(
        "default deny all egress",
        "deny: {podSelector: {}, policyTypes: [Egress]}",
        """
        shop/web > shop/db:5432 = drop deny
        shop/web > 203.0.113.9:443 = drop deny
        shop/web > lab/client icmp = drop deny
        lab/client > shop/web:80 = allow         # ingress stays open
        203.0.113.9 > shop/web:80 = allow
        """,
    ),
    Case(
        "allow all egress",
        "deny: {podSelector: {}, policyTypes: [Egress]}\nopen: {podSelector: {}, egress: [{}], policyTypes: [Egress]}",
        """
        shop/web > 203.0.113.9:443 = allow open[0]
        shop/web > lab/client icmp = allow open[0]
        """,
    ),
    Case(
        "default deny all ingress and all egress",
        "deny: {podSelector: {}, policyTypes: [Ingress, Egress]}",
        """
        shop/web > shop/db:5432 = drop deny
        shop/web > lab/client = drop deny
        lab/client > shop/web = drop deny
        """,
    ),
    Case(
        "both ends must allow a connection",
        """
        a-out: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress],
                egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}
        b-in: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress],
               ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}
        """,
        """
        shop/web > shop/db = drop a-out[0] b-in
        shop/api > shop/db = allow b-in[0]
        shop/web > shop/api = drop a-out
        """,
    ),
)

TYPES = (
    Case(
        "policyTypes defaults to Ingress, also without rules",
        "p: {podSelector: {}}",
        """
        lab/client > shop/web = drop p
        shop/web > lab/client = allow
        """,
    ),
    Case(
        "policyTypes defaults to Ingress and Egress when there are egress rules",
        "p: {podSelector: {}, egress: [{to: [{podSelector: {}}]}]}",
        """
        lab/client > shop/web = drop p
        shop/web > lab/client = drop p
        shop/web > shop/db = drop p[0] p
        """,
    ),
    Case(
        "an empty egress list alone does not isolate for egress",
        "p: {podSelector: {}, ingress: [{}], egress: []}",
        """
        shop/web > lab/client = allow
        lab/client > shop/web = allow p[0]
        """,
    ),
    Case(
        "rules of a direction that policyTypes leaves out have no effect",
        "p: {podSelector: {}, policyTypes: [Egress], ingress: [], egress: [{}]}",
        """
        lab/client > shop/web = allow
        shop/web > lab/client = allow p[0]
        """,
    ),
    Case(
        "only selected pods are isolated",
        "p: {podSelector: {matchLabels: {app: db}}}",
        """
        shop/web > shop/db = drop p
        shop/web > shop/api = allow
        """,
    ),
)

PEERS = (
    Case(
        "podSelector alone means the policy's own namespace",
        "p: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
        """
        shop/web > shop/db = allow p[0]
        lab/web > shop/db = drop p
        shop/api > shop/db = drop p
        """,
    ),
    Case(
        "an empty podSelector means every pod of the namespace",
        "p: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
        """
        shop/api > shop/db = allow p[0]
        lab/client > shop/db = drop p
        203.0.113.9 > shop/db = drop p
        """,
    ),
    Case(
        "namespaceSelector alone means every pod there",
        "p: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}",
        """
        lab/client > shop/db = allow p[0]
        lab/web > shop/db = allow p[0]
        shop/web > shop/db = drop p              # its own namespace is not selected by itself
        watch/probe > shop/db = drop p
        """,
    ),
    Case(
        "an empty namespaceSelector means every namespace, but no outsider",
        "p: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        """
        lab/client > shop/db = allow p[0]
        shop/web > shop/db = allow p[0]
        203.0.113.9 > shop/db = drop p
        """,
    ),
    Case(
        "namespaceSelector AND podSelector in one entry",
        """
        p: {podSelector: {}, ingress: [{from: [
              {namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: web}}}]}]}
        """,
        """
        lab/web > shop/db = allow p[0]
        lab/client > shop/db = drop p
        shop/web > shop/db = drop p
        """,
    ),
    Case(
        "namespaceSelector OR podSelector in two entries",
        """
        p: {podSelector: {}, ingress: [{from: [
              {namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: web}}}]}]}
        """,
        """
        lab/web > shop/db = allow p[0]
        lab/client > shop/db = allow p[0]
        shop/web > shop/db = allow p[0]
        shop/api > shop/db = drop p
        watch/probe > shop/db = drop p
        """,
    ),
    Case(
        "targeting a namespace by its name",
        "p: {podSelector: {}, policyTypes: [Egress],"
        " egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: lab}}}]}]}",
        """
        shop/web > lab/client = allow p[0]
        shop/web > watch/probe = drop p
        """,
    ),
    Case(
        "targeting multiple namespaces by label values",
        """
        p: {podSelector: {}, policyTypes: [Egress], egress: [{to: [
              {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In,
                                                       values: [lab, watch]}]}}]}]}
        """,
        """
        shop/web > lab/client = allow p[0]
        shop/web > watch/probe = allow p[0]
        shop/web > shop/db = drop p
        """,
    ),
    Case(
        "NotIn and DoesNotExist also match what lacks the key",
        """
        p: {podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db, api]}]}, ingress: [{from: [
              {namespaceSelector: {matchExpressions: [{key: role, operator: DoesNotExist}]},
               podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [back]}]}}]}]}
        """,
        """
        lab/client > shop/web = allow p[0]       # no tier
        shop/db > shop/web = drop p              # tier back
        watch/probe > shop/web = drop p          # its namespace has a role
        watch/probe > shop/db = allow            # db is not selected
        """,
    ),
    Case(
        "Exists matches any value",
        "p: {podSelector: {}, ingress: [{from: [{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}]}]}",
        """
        shop/web > shop/api = allow p[0]
        shop/db > shop/api = allow p[0]
        lab/client > shop/api = drop p
        """,
    ),
    Case(
        "an undeclared namespace exists when it holds pods, with its name label",
        "p: {podSelector: {}, ingress: [{from: [{namespaceSelector:"
        " {matchLabels: {kubernetes.io/metadata.name: ghost}}}]}]}",
        """
        ghost/pod > shop/db = allow p[0]
        lab/client > shop/db = drop p
        """,
        ("ghost/pod n1 app=ghost",),
    ),
    Case(
        "an empty or missing from or to list matches every peer",
        """
        p: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [], ports: [{port: 5432}]}]}
        q: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}
        """,
        """
        lab/client > shop/db:5432 = allow p[0]
        203.0.113.9 > shop/db:5432 = allow p[0]
        lab/client > shop/db:5433 = drop p
        shop/web > 203.0.113.9:443 = allow q[0]
        shop/web > lab/client:443 = allow q[0]
        shop/web > lab/client:444 = drop q
        """,
    ),
)

UNIONS = (
    Case(
        "policies add up, order does not matter, none can deny what another allows",
        """
        a-deny: {podSelector: {}}
        b-web: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}
        c-lab: {podSelector: {matchLabels: {tier: back}}, ingress: [{from: [{namespaceSelector:
                 {matchLabels: {team: blue}}}], ports: [{port: 5432}]}]}
        """,
        """
        shop/web > shop/db:1 = allow b-web[0]
        lab/client > shop/db:5432 = allow c-lab[0]
        lab/client > shop/db:1 = drop a-deny
        shop/web > shop/api = drop a-deny
        """,
    ),
    Case(
        "egress to DNS only",
        """
        dns: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector:
               {matchLabels: {kubernetes.io/metadata.name: kube-dns}}, podSelector: {matchLabels: {app: dns}}}],
               ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}]}
        """,
        """
        shop/web > kube-dns/dns:53 udp = allow dns[0]
        shop/web > kube-dns/dns:53 = allow dns[0]
        shop/web > kube-dns/dns:54 = drop dns
        shop/web > kube-dns/other:53 udp = drop dns
        shop/web > 203.0.113.9:53 udp = drop dns
        """,
        ("kube-dns/dns n2 app=dns", "kube-dns/other n2 app=other"),
    ),
    Case(
        "a policy only concerns its own namespace",
        "lab/p: {podSelector: {}, policyTypes: [Ingress, Egress]}",
        """
        shop/web > shop/db = allow
        shop/web > lab/client = drop lab/p
        lab/client > shop/web = drop lab/p
        """,
    ),
)

NODES = (
    Case(
        "traffic between a pod and its own node is always allowed",
        "deny: {podSelector: {}, policyTypes: [Ingress, Egress]}",
        """
        192.0.2.11 > shop/web = allow            # n1, where web is
        192.0.2.12 > shop/web = drop deny        # the other node
        shop/web > 192.0.2.11 = allow
        shop/web > 192.0.2.12 = drop deny
        shop/web > 192.0.2.11 icmp = allow
        192.0.2.11 > shop/web icmp = allow
        """,
    ),
    Case(
        "host-network pods are never subjects and match no selector",
        """
        p: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}, {namespaceSelector: {}}]}]}
        q: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}, {namespaceSelector: {}}]}]}
        """,
        """
        shop/host > shop/web = drop p            # another node's host network
        shop/host > shop/db = allow              # its own node
        shop/web > shop/host = drop q
        lab/client > shop/host = allow           # not isolated by p
        """,
    ),
    Case(
        "ipBlock compares with a node: as a source by its management address, as a target by its own",
        """
        p: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.128.2.2/32}}]}]}
        q: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.12/32}}]}]}
        """,
        """
        192.0.2.12 > shop/web = allow p[0]
        shop/host > shop/web = allow p[0]
        shop/web > 192.0.2.12:6443 = allow q[0]
        shop/web > shop/host:6443 = allow q[0]
        shop/web > 203.0.113.9 = drop q
        """,
    ),
    Case(
        "a completed pod neither protects nor opens its address",
        "p: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: job}}}]}]}",
        """
        shop/next > shop/db = drop p             # it has the completed job's address, not its label
        shop/job-2 > shop/db = allow p[0]
        """,
        (
            "shop/job n1 app=job ip=10.128.0.40 completed",
            "shop/next n1 app=next ip=10.128.0.40",
            "shop/job-2 n1 app=job",
        ),
    ),
)

CASES = (*DEFAULTS, *TYPES, *PEERS, *UNIONS, *NODES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_network_policy(case: Case) -> None:
    wrong = judge(case)
    assert not wrong, "\n".join(wrong)
