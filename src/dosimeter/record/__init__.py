"""What crosses from one process to another: the response table, its facts, and a run's folder."""
