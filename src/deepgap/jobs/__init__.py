"""What a workflow script needs."""
