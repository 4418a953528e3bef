"""Doors: what core opens for plugins with pages of their own. Public names are exported by `fastapi_crons.api`."""
