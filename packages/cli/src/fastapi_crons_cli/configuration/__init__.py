"""Settings: all of them with their sources, and changing one in a `.env` file."""
