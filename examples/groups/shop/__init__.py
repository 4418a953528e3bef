"""A shop whose jobs stand beside what they are about."""
