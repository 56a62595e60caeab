"""Activities of the examples: everything that touches the outside world."""
