"""A finished run's images again: to look at, to export, for a study with readers."""
