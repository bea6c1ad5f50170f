"""The data audit: every check of a cohort with its number, rule, source, verdict and remedy; `base` is the way in."""
