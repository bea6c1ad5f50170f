"""The examinations of a study: every file one."""
