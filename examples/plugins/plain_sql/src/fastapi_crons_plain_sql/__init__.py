"""A lock store in three tables of a SQLite file."""
