"""The command `plan`: what is due in the next hours, and what a deploy would change."""
