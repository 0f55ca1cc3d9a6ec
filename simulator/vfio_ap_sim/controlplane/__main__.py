"""``python -m vfio_ap_sim.controlplane``."""

import sys

from .cli import main

sys.exit(main())
