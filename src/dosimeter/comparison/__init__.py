"""Finished runs compared on the images that they share: paired differences, curves over one another, one page."""
