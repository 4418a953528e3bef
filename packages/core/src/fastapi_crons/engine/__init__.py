"""What is between the start of a scheduler and its stop."""
