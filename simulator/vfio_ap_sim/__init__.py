"""The simulator: a model of the AP bus and vfio_ap, played nodes, and the demo.

Nothing that ships imports this package.
"""
