"""What differs between two graphs, each difference with the patch that would take it away."""
