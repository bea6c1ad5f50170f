"""What the response table says: tables, curves, flips, findings. No torch, no images, only rows."""
