"""The renderer of the sample collection: drawn cables, pipes and joints, not photos."""
