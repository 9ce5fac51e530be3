"""Code that several defenses share; none of it is a defense."""
