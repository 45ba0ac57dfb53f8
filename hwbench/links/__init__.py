"""How bytes and commands reach a board; one module a kind."""
