"""The network every room builds on: cluster router, join switch, node switches, gateway routers and their ports.

One gateway mode, *shared*: traffic that leaves the cluster goes through the gateway router of the pod's own node
and is translated to that node's address. Local gateway mode is not built (docs/sources.md says why).
"""
