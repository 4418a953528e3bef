"""Drawings, as values that templates write down."""
