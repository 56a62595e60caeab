"""The HTTP facade: starts workflows, reads runs by reference, controls them. Wiring only; what it
does is in the library."""
