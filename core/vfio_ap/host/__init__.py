"""One host: what it holds, what it shall hold, and the writes between the two. Knows of no other host.

The agent calls these, under Kubernetes and on a plain KVM host alike.
"""
