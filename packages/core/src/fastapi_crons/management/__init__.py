"""What the HTTP API and the command line ask for."""
