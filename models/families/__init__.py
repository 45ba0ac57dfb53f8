"""Network families: each module is a plugin with `supernet(space, seed)` and `build(block, salt)`."""
