"""What must be in order in a cluster before anything is provisioned, each with the command that mends it."""
