"""HDF5 files: written through a sink with checksums, and checked when they are read."""
