"""Tables of a comparison: their columns, and the functions that build, write and read them."""
