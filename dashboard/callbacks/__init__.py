"""Callbacks: read state, one call, return."""
