"""Charts for people, in HTML pages that need no network and escape all data that they show."""
