"""Search spaces: each module is a plugin, named as on the command line, with `space()` returning a `Space`."""
