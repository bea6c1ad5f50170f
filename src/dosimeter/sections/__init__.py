"""Every folder is one section of the report, its object the folder's `ENTRY`; none imports another."""
