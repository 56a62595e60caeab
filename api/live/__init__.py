"""Live connections: the feed over server-sent events and WebSocket."""
