"""Data and stand-ins that the example workflows run on."""
