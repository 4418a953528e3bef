"""A state store of JSON lines for FastAPI Crons: `JsonlStateBackend` in `state`, made known by `plugin`."""
