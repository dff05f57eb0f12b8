"""The domains: each knows only the public `matinee`, and registers itself through the `matinee.domains` entry points."""
