"""The Prefect server: serving, deployments, artifacts."""
