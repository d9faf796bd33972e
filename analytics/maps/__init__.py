"""The published map as a table: rows, columns, selections, and what was placed since."""
