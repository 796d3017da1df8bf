"""Find any kind of galaxy in a survey from a few examples: a web service for several people and searches."""
