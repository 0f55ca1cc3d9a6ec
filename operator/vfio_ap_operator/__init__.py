"""The operator: watches, plans with the pure core, writes desired state per node."""
