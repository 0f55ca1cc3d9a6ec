"""The node agent: one plan-apply-read-back loop over the sysfs of an AP host."""
