"""What analysts decided, in force on any map."""
