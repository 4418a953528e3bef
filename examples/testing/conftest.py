"""The app's own scheduler runs nothing and keeps nothing while tests run: said before the app is imported."""

import os

os.environ.update(CRON_ENABLED="false", CRON_STATE_BACKEND="memory", CRON_LOCK_BACKEND="local")
