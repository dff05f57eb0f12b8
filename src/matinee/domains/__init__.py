"""The domains: each knows only the public `matinee` and registers through the `matinee.domains` entry points."""
