"""Charts for people, in pages that need no network and trust none of what they show."""
