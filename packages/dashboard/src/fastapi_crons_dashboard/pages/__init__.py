"""The pages, each with what it asks."""
