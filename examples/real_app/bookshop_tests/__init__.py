"""How the bookshop is tested."""
