"""Defences: what is done to a classifier so that attacks succeed less."""
