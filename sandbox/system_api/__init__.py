"""The `ic0` functions, one module per family, and the table of contexts where each may be called."""
