"""What labels teach: linear models that are scored over every row."""
