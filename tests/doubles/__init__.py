"""Stand-ins for what tests cannot reach: small, and true to the real thing where a reader could tell."""
