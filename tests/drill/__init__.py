"""The fault drill: an ingest that is killed, cut off, lied to and left without disk ends byte for byte the same."""
