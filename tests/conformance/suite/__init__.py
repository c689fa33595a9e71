"""The machinery of the conformance suite: what a case is, how it is run, how two answers are compared and reported."""
