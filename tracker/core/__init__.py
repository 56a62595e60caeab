"""The pure part: words, identities, facts and the rules that merge them.

Standard library only, no clock, no I/O: workflow sandboxes import it, and property tests own it.
"""
