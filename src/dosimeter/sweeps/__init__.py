"""The sweep: cells, their execution, and the answers of a classifier. `api.sweep` is the way in."""
