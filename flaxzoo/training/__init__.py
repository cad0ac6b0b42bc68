"""One train step, and the loop that calls it."""
