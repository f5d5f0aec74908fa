"""Storage: files written durably and read with suspicion."""
