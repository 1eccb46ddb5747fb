"""The command line and the Prefect flows of the stages; no other package imports Prefect."""
