"""Alerts over a webhook for FastAPI Crons. The plugin is in `plugin`, its settings are in `settings`."""
