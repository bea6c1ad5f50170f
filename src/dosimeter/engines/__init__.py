"""What computes a classifier's answers: torch, the reference, or something faster that was checked against it."""
