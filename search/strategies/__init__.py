"""Search strategies; one module a kind."""
