"""What reads power or energy; one module a kind."""
