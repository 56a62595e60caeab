"""Speaks Flowflare's language, so that programs written for it work by changing a URL: its words
and shapes stop here, everything behind is ours. docs/flowflare.md lists what it serves."""
