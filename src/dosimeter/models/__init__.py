"""Classifiers: a frozen pretrained base, a trained head, and the preprocessing between image and base."""
