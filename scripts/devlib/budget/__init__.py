"""What a piece and a hello may cost at most: benches/budget.toml, compared by `scripts/test budget`."""
