"""What must hold across the house: protocols, the project's own shape."""
