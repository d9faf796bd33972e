"""What speaks for an outlier or a near-duplicate: photos, regions, attributes, probabilities."""
