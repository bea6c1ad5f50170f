"""The defences: every file one."""
