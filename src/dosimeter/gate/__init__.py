"""A gate: rules that a run's numbers must keep, tested against their intervals, for a pipeline to stop at."""
