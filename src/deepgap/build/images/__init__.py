"""The images that networks are calibrated, conditioned and checked on."""
