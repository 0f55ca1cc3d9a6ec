"""Documents from a cluster or from files; the only I/O of the command line."""
