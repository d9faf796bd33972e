"""From photos to feature vectors: ingest, decode, models, and the Spark jobs that run them."""
