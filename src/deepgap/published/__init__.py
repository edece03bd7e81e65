"""What the published study prints, and what is wrong with it."""
