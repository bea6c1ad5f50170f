"""Every file is one way to bring a trained network, its name the file's, its object the file's `ENTRY`."""
