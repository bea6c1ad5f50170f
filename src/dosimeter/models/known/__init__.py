"""Every backbone: a module of this folder that has an `ENTRY` is one, and its name is the module's."""
