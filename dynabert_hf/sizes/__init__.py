"""What a size costs and achieves, and which one to take."""
