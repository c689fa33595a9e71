"""What :mod:`mod_python.Session` is made of: the base class, the kinds of stores, options, serialisers, locks."""
