"""The command line of FastAPI Crons."""
