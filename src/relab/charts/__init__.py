"""Charts for people, in pages that need no network and escape all data that they show."""
