"""The work of scripts/bench: the same works done by us and by others, in interleaved rounds on one machine."""
