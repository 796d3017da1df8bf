"""MLflow: runs, the registry, and models that load anywhere."""
