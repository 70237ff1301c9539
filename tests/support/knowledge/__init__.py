"""Writers of stored vectors."""
