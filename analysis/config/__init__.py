"""Settings of commands: fields, files, defaults."""
