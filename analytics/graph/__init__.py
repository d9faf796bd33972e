"""How the neighbour graph is made: exactly or by cells, measured, extended to new rows."""
