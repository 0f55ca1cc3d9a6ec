"""Adapters, domains, queues, matrices, masks and plans: functions from data to data.

Everything here is pure. Nothing in this package reads a file, a clock or a socket, and it imports
nothing of ours and nothing from third parties.
"""
