"""What both models are fed."""
