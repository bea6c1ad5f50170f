"""What is left of an image once it is written to a file and read again; `base` is the way in."""
