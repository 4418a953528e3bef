"""Settings and plugins: showing, changing and checking them."""
