"""Where a difference begins, and the experiments that prove why."""
