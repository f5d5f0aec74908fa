"""The user's own parts: entries of registries from a script, a file, a module or an installed package."""
