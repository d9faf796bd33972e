"""The tree of clusters: spanning tree, levels, shares, names, keys that outlive a map."""
