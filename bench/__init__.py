"""Programs that measure: each runs by itself, within seconds, and prints figures."""
