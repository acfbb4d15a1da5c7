"""How far outputs lie apart, and how far rounding alone would move them."""
