"""The pipeline's steps, a folder a stage; see ARCHITECTURE.md."""
