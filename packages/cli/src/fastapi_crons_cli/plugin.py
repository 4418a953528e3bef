"""The plugin: makes the command line known to `fastapi-crons plugins`. It implements no hook."""
