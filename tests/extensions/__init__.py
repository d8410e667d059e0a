"""A pretext task, a head and a source as a user adds them: each is one file, and one line in a registry."""
