"""What is left in the warehouses."""
