"""The agent in a cluster: APNode.spec in, APNode.status, Lease, Events and extended resources out."""
