"""What an operator would look at; nothing here changes anything."""
