"""Storage and processes underneath Sightline: settings, Cassandra, Spark, and the typed store."""
