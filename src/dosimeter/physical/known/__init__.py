"""Every file one physical change, its name the file's, its `ENTRY` what is known of it."""
