"""Shard hosts: resident Spark tasks, the shards that they hold, and what changes meanwhile."""
