"""Examinations: what is measured of a classifier beside the sweep."""
