"""What must be true of the cluster before a device is made. Each guard says no with the exact remedy."""
