"""Where the pipeline runs: settings, profiles, storage, clusters, the local services."""
