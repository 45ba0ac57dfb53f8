"""search looks for dynamic networks over measured tables and goes back to the board to check what it promised."""
