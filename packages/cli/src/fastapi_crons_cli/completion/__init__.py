"""Completion in a shell, and which apps it may import."""
