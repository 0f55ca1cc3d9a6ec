"""The kernel model held to the kernel: behaviours by number, and replays of what real kernels answered."""
