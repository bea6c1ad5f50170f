"""The study: settings, plans, the run from images to a report, and `dm.sweep`, its sweep alone."""
