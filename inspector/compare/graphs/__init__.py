"""Two graphs held against each other: layers, wiring and stored values."""
