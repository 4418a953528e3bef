"""How a page is asked for and answered: its frame, links, templates, files, and the events that keep it fresh."""
