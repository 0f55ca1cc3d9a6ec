"""The thin edge to the Kubernetes API that the operator and the agent share.

It moves JSON documents. What they mean is decided elsewhere; nothing here knows our kinds.
"""
