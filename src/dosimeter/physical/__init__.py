"""Physical changes: what an apparatus, a patient or a file does to an image, without meaning to fool anybody."""
