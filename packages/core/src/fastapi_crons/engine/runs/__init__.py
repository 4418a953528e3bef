"""Runs: calls one function, and keeps what came of it."""
