"""networking.k8s.io/v1 NetworkPolicy, sentence by sentence: ipBlock and ports, as truth tables.

Source: the Kubernetes documentation of NetworkPolicy (concept page and API reference); each case is named for what
it says. The cluster is in ``tests.kit.table``.
"""

from __future__ import annotations

import pytest

from tests.kit.table import Case, judge

BLOCKS = (
    Case(
        "ipBlock with except, as in the documentation's example",
        """
        p:
          podSelector: {matchLabels: {app: db}}
          policyTypes: [Ingress, Egress]
          ingress:
          - from:
            - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
            - namespaceSelector: {matchLabels: {team: blue}}
            - podSelector: {matchLabels: {app: web}}
            ports: [{protocol: TCP, port: 6379}]
          egress:
          - to: [{ipBlock: {cidr: 10.0.0.0/24}}]
            ports: [{protocol: TCP, port: 5978}]
        """,
        """
        172.17.0.0 > shop/db:6379 = allow p[0]
        172.17.0.255 > shop/db:6379 = allow p[0]
        172.17.1.0 > shop/db:6379 = drop p
        172.17.1.255 > shop/db:6379 = drop p
        172.17.2.0 > shop/db:6379 = allow p[0]
        172.17.255.255 > shop/db:6379 = allow p[0]
        172.18.0.0 > shop/db:6379 = drop p
        172.16.255.255 > shop/db:6379 = drop p
        172.17.2.0 > shop/db:6378 = drop p
        172.17.2.0 > shop/db:6379 udp = drop p
        lab/client > shop/db:6379 = allow p[0]
        shop/web > shop/db:6379 = allow p[0]
        lab/web > shop/db:6380 = drop p
        shop/db > 10.0.0.1:5978 = allow p[0]
        shop/db > 10.0.0.255:5978 = allow p[0]
        shop/db > 10.0.1.0:5978 = drop p
        shop/db > 10.0.0.1:5979 = drop p
        """,
    ),
    Case(
        "except only cuts its own block: another entry may still allow",
        """
        p: {podSelector: {}, ingress: [{from: [
              {ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.9/32]}}, {ipBlock: {cidr: 203.0.113.9/32}}]}]}
        """,
        """
        203.0.113.9 > shop/db = allow p[0]
        203.0.113.8 > shop/db = allow p[0]
        203.0.114.0 > shop/db = drop p
        """,
    ),
    Case(
        "several excepts, nested and side by side",
        """
        p: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0,
              except: [203.0.113.0/24, 203.0.113.0/25, 198.51.100.7/32]}}]}]}
        """,
        """
        shop/web > 203.0.113.200 = drop p
        shop/web > 203.0.112.255 = allow p[0]
        shop/web > 203.0.114.0 = allow p[0]
        shop/web > 198.51.100.7 = drop p
        shop/web > 198.51.100.8 = allow p[0]
        """,
    ),
    Case(
        "ipBlock compares with pod addresses too",
        "p: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.128.2.30/32}}]}]}",
        """
        shop/web-b > shop/db = allow p[0]
        shop/web > shop/db = drop p
        """,
    ),
    Case(
        "an ipBlock of the other family matches nothing",
        'p: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]}',
        """
        shop/web > shop/db = drop p
        203.0.113.9 > shop/db = drop p
        """,
    ),
)

PORTS = (
    Case(
        "endPort is a range with both ends in it",
        """
        p: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24}}],
            ports: [{protocol: TCP, port: 32000, endPort: 32768}]}]}
        """,
        """
        shop/db > 10.0.0.1:31999 = drop p
        shop/db > 10.0.0.1:32000 = allow p[0]
        shop/db > 10.0.0.1:32768 = allow p[0]
        shop/db > 10.0.0.1:32769 = drop p
        shop/db > 10.0.0.1:32000 udp = drop p
        """,
    ),
    Case(
        "a port without protocol is TCP, a protocol without port is every port",
        "p: {podSelector: {}, ingress: [{ports: [{port: 80}, {protocol: UDP}]}]}",
        """
        lab/client > shop/db:80 = allow p[0]
        lab/client > shop/db:81 = drop p
        lab/client > shop/db:80 sctp = drop p
        lab/client > shop/db:1 udp = allow p[0]
        lab/client > shop/db:65535 udp = allow p[0]
        """,
    ),
    Case(
        "SCTP",
        "p: {podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 7777}]}]}",
        """
        lab/client > shop/db:7777 sctp = allow p[0]
        lab/client > shop/db:7777 = drop p
        """,
    ),
    Case(
        "an empty or missing ports list is every protocol, ICMP too",
        "p: {podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: []}]}",
        """
        shop/web > shop/db icmp = allow p[0]
        shop/web > shop/db:1 sctp = allow p[0]
        lab/client > shop/db icmp = drop p
        """,
    ),
    Case(
        "ports never match ICMP",
        "p: {podSelector: {}, ingress: [{ports: [{port: 1, endPort: 65535}, {protocol: UDP}, {protocol: SCTP}]}]}",
        """
        shop/web > shop/db icmp = drop p
        shop/web > shop/db:9 = allow p[0]
        """,
    ),
    Case(
        "peers and ports of one rule are ANDed, rules are ORed",
        """
        p: {podSelector: {matchLabels: {app: db}}, ingress: [
              {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 1}]},
              {from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 2}]}]}
        """,
        """
        shop/web > shop/db:1 = allow p[0]
        shop/web > shop/db:2 = drop p
        shop/api > shop/db:2 = allow p[1]
        shop/api > shop/db:1 = drop p
        """,
    ),
    Case(
        "a named port is resolved on each subject for ingress",
        "p: {podSelector: {}, ingress: [{ports: [{port: http}]}]}",
        """
        lab/client > shop/web:8080 = allow p[0]
        lab/client > shop/web:8081 = drop p
        lab/client > shop/web-b:8081 = allow p[0]
        lab/client > shop/web-b:8080 = drop p
        lab/client > shop/api:80 = allow p[0]
        lab/client > shop/db:80 = drop p         # db has no such name
        203.0.113.9 > shop/web:8080 = allow p[0]
        """,
    ),
    Case(
        "a named port and peers of one rule are ANDed",
        """
        p: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}],
            ports: [{port: http}]}]}
        """,
        """
        shop/db > shop/web:8080 = allow p[0]
        shop/api > shop/web:8080 = drop p
        shop/db > shop/web:8081 = drop p
        203.0.113.9 > shop/web:8080 = drop p
        """,
    ),
    Case(
        "a named port is resolved on each peer for egress",
        "p: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]}",
        """
        shop/db > shop/web:8080 = allow p[0]
        shop/db > shop/web:8081 = drop p
        shop/db > shop/web-b:8081 = allow p[0]
        shop/db > shop/api:80 = allow p[0]
        shop/db > 203.0.113.9:8080 = drop p
        """,
    ),
    Case(
        "a named port without peers is resolved on any pod, and on nothing outside",
        "p: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}",
        """
        shop/db > shop/web:8080 = allow p[0]
        shop/db > lab/tool:9000 = allow p[0]
        shop/db > lab/tool:8080 = drop p
        shop/db > 203.0.113.9:8080 = drop p
        """,
        ("lab/tool n1 http:9000/tcp",),
    ),
    Case(
        "a name stands for its own protocol only",
        "p: {podSelector: {}, ingress: [{ports: [{protocol: UDP, port: dns}, {port: dns}]}]}",
        """
        lab/client > shop/api:5353 udp = allow p[0]
        lab/client > shop/api:5353 = drop p
        """,
    ),
    Case(
        "a named port with an ipBlock resolves on the subject, for egress on nothing",
        """
        p: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: http}]}]}
        q: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}],
            ports: [{port: http}]}]}
        """,
        """
        203.0.113.9 > shop/web:8080 = allow p[0]
        203.0.113.9 > shop/web:8081 = drop p
        shop/db > lab/tool:9000 = drop q
        """,
        ("lab/tool n1 http:9000/tcp",),
    ),
    Case(
        "an undefined name matches nothing",
        "p: {podSelector: {}, ingress: [{ports: [{port: nobody}]}]}",
        "lab/client > shop/web:8080 = drop p",
    ),
)

CASES = (*BLOCKS, *PORTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_network_policy(case: Case) -> None:
    wrong = judge(case)
    assert not wrong, "\n".join(wrong)
