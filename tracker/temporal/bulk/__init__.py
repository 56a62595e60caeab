"""Actions on many runs, carried out by a Temporal workflow of ours: durable, paced, resumable."""
