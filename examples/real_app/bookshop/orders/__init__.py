"""Orders, and what is sent."""
