"""The making of a map: its steps, where their results are kept, and how it is published."""
