"""All nodes together: which matrix stands, where it is needed, which VM may go where. Knows nothing of sysfs.

The operator and the command line call these with the same snapshots and get the same decisions.
"""
