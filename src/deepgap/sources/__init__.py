"""Where a model comes from, its weights, and what is known of it."""
