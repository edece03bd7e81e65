"""From the config to cells: what is measured, and the recipe that names it."""
