"""Contents of flags, and processes that change them."""
