"""What several defenses share. None of it is a defense."""
