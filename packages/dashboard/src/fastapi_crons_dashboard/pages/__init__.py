"""The pages, each with what it asks, and what their forms do."""
