"""Fast data structures on ints and arrays; knows nothing of networks.

``ovnk_core.kernels.classifier`` is a public interface of its own: first match over destination, protocol and port.
"""
