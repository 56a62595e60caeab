"""The worker program, and the local stack for development."""
