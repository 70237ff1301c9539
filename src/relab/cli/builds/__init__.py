"""`lab builds`: builds, run and recorded, with what explains and repairs their failures."""
