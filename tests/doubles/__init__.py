"""Stand-ins for hardware: what they replace cannot be plugged into a test machine."""
