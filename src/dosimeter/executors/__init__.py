"""Who computes cells: this machine's cores, or a cluster."""
