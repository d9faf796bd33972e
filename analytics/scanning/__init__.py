"""What a host does to find hits: passes over codes, bounds, exact scores of what is left."""
