"""What people touch: the command line, survey definitions and profiles."""
