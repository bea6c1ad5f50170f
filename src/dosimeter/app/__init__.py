"""The local web app of a finished run."""
