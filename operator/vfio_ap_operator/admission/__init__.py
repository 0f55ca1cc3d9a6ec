"""The admission webhook, for API servers without MutatingAdmissionPolicy; the chart decides which one is used.

It adds to VMs and pods what the chart's policies ``vfio-ap-vmis`` and ``vfio-ap-pods`` add, in the same bytes: a
cluster test holds them together. It refuses nothing: that is left to the validating policies in both cases.
"""
