"""Which inputs and outputs correspond, and in which layout."""
