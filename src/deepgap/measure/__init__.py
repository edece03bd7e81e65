"""One cell on one device."""
