"""Attacks: each proposes a direction, the framework clips, checks and measures. `base` is the way in."""
