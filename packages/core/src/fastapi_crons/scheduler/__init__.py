"""The scheduler as its users see it, and how it is tied to an app."""

from fastapi_crons._elsewhere import former_names_of
from fastapi_crons.scheduler.crons import Crons

__all__ = ["Crons"]

__getattr__ = former_names_of(__name__)
