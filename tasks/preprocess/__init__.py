"""Quality, duplicates, splits and statistics over a stamp dataset."""
