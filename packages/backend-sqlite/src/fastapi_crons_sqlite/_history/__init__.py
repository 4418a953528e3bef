"""The parts of the state store."""
