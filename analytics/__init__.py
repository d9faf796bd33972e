"""Everything computed over a snapshot: shards, search, neighbours, map, clusters, outliers."""
