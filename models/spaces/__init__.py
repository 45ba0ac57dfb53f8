"""Search spaces: each module is a plugin, named as on the command line, whose `space()` returns a `models.space.Space`."""
