"""From cells to tidy tables, and what is derived from them."""
