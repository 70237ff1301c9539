"""How good responders are: figures of many episodes, with what they leave open."""
