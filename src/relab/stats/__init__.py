"""Statistics as pure functions. Import from the modules; nothing here imports scipy before it is used."""
