"""What is known about sales."""
