"""The plugin with pages, for all tests of this folder."""

from tests.integration.api.doors.site import serve

__all__ = ["serve"]
