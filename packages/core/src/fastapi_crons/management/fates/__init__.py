"""What became of ticks: why one ran or did not, and how the latest ones went."""
