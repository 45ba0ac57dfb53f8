"""What runs tasks; one module a kind."""
