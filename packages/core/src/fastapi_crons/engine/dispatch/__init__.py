"""Dispatch: decides which ticks are due, claims them, and starts their runs."""
